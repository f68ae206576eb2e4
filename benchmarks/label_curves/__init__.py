"""Test accuracy against the number of labels, with unlabelled pictures and without."""
