"""Whether the values of a site go together."""
