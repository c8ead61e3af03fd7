"""mailstack: one env file in, a hardened mail appliance out."""
