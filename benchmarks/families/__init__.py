"""Distillation between a convolutional network and a vision transformer, in both roles."""
