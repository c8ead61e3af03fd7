"""policyd-spf, which judges by SPF at RCPT and tells dmarc."""

from mailstack.services.ids import IDS
from mailstack.services.model import Limits, Service, Volume

RESULTS = Volume("spf-results", "/run/policyd-spf")
MEMORY = Volume(
    "spf-memory",
    "/run/spf-memory",
    {
        "type": "tmpfs",
        "device": "tmpfs",
        "o": f"size=4m,mode=0750,uid={IDS.policyd_spf},gid={IDS.sockets},nosuid,nodev,noexec",
    },
    "policyd-spf leaves there what dmarc looks for before it asks: in memory, so that no disk makes them wait.",
)

SERVICE = Service(
    "policyd-spf",
    IDS.policyd_spf,
    networks=("inner",),
    limits=Limits(256, 64),
    grace=35,
    socket=True,
    volumes=(RESULTS, MEMORY),
)
