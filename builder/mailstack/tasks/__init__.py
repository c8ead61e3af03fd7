"""What the commands do: each task brings a directory to a state, or says how it is."""
