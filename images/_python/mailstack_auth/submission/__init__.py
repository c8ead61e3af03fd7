"""Mail of our own, before it leaves."""
