"""The rooms that know the docker SDK."""
