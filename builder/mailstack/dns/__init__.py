"""The records to publish."""
