"""What log lines say about messages, in plain words. Nothing here reads a log."""
