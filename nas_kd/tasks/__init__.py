"""What data ask of a network: one file a task."""
