"""Data sources, one file each, and the steps from a source to a validated, split and augmented data set."""
