"""The milter protocol."""
