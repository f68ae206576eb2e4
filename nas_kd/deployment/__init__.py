"""What goes with an exported file: its card and metadata, the model card, and the program that runs it."""
