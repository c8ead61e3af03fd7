"""Mail authentication: SPF, DKIM and DMARC, as the services policyd-spf and dmarc check them in their containers."""
