"""The settings by theme."""
