"""Settings → Stack: every decision about a site, made once."""
