"""What a site needs, against what is published."""
