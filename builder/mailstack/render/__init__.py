"""Stack → Tree: what is written for a site, and what its images are built from."""

from mailstack.render.compose import COMPOSE, site
from mailstack.render.site import services

__all__ = ["COMPOSE", "services", "site"]
