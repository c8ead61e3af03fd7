"""Stack → Tree: what is written for a site, and what its images are built from."""
