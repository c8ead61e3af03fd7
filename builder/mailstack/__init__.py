"""mailstack: one env file in, a hardened mail appliance out."""

__version__ = "0.1.0"
