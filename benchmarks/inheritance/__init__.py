"""Inherited against fresh weights, for students cut out of a trained network."""
