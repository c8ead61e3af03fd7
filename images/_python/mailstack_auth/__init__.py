"""What runs in mailstack's containers: the SPF policy service."""
