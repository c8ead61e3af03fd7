"""Mistakes in records that are known by name; pure functions of what is published and what is wanted."""
