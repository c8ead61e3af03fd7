"""Where the world of this run is: its name, its edge network and the sites' inner networks; and the base of all images.

Runs side by side on one engine need a place each; tests/lanes.py gives them theirs.
"""

import ipaddress
import os

VARIABLE = "TEST_WORLD"

BASE_IMAGE = os.environ.get("MAILSTACK_BASE_IMAGE", "debian:trixie-slim")
NAME, *_networks = os.environ.get(VARIABLE, "mailstack-world 198.51.100.0/24 172.30.240.0/22").split()
EDGE, INNER = map(ipaddress.IPv4Network, _networks)
