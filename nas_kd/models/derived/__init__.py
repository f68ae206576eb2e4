"""A search space made of a trained network: its channels, heads, blocks and ranks are the dimensions."""
