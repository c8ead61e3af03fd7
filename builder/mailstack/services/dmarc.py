"""dmarc, which decides about each message."""

from mailstack.services.ids import IDS
from mailstack.services.model import Limits, Service, Tmpfs
from mailstack.services.opendkim import AUTHSERV_ID
from mailstack.services.policyd_spf import MEMORY, RESULTS

SERVICE = Service(
    "dmarc",
    IDS.dmarc,
    networks=("inner",),
    limits=Limits(512, 64),
    grace=30,
    socket=True,
    capabilities={
        "CHOWN": ("the entrypoint gives policyd-spf's directory of results to it, if the volume comes from other ids,"),
        "DAC_READ_SEARCH": "reads a secret that an ordinary user of the host owns with mode 0600,",
        "SETGID": "and becomes the user dmarc,",
        "SETPCAP": "without any of these",
        "SETUID": "",
    },
    volumes=(RESULTS, MEMORY),
    secrets=(AUTHSERV_ID,),
    tmpfs=(Tmpfs("/run/dmarc", 1, (IDS.dmarc, IDS.sockets)),),
)
