"""What every program needs whatever it judges: a worker and its supervisor, connections, log, memory and counts."""
