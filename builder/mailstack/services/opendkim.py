"""OpenDKIM, which signs and verifies."""

from mailstack.services.ids import IDS
from mailstack.services.model import Limits, Secret, Service, Tmpfs

# The key files' directory, a tmpfs.
KEY_DIRECTORY = "/run/opendkim/keys"
# Known to OpenDKIM and dmarc alone: what OpenDKIM finds stands under it.
AUTHSERV_ID = Secret("authserv-id", "secrets/authserv-id", "authserv-id")

SERVICE = Service(
    "opendkim",
    IDS.opendkim,
    networks=("inner",),
    limits=Limits(512, 512),
    grace=20,
    socket=True,
    capabilities={
        "DAC_READ_SEARCH": "the entrypoint reads keys that an ordinary user of the host owns with mode 0600,",
        "SETGID": "and becomes the user opendkim,",
        "SETPCAP": "without any of these",
        "SETUID": "",
    },
    secrets=(AUTHSERV_ID,),
    tmpfs=(Tmpfs("/run/opendkim", 64, (IDS.opendkim, IDS.sockets), why="A page of 4 kB for each key."),),
    overridable={"opendkim.conf": "etc/opendkim/opendkim.conf"},
)
