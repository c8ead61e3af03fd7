"""DKIM: the signatures of a message, and whether they verify."""
