"""Data sources, one file each, and what makes a checked, split and augmented data set of them."""
