"""Private keys on the host's disk."""
