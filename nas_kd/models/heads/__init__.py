"""What stands behind a backbone and returns what a task asks for: one file a head."""
