"""DMARC, and the milter that judges by it."""
