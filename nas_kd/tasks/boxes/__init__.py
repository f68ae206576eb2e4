"""What detection learns by: boxes with gradients, their losses, and which anchor learns which box."""
