"""Students of a derived space against a plain pruning script, at equal measured latency."""
