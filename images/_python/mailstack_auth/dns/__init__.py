"""DNS: look-ups, and what of an answer is read."""
