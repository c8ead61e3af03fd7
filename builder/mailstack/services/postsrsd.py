"""postsrsd, which rewrites envelope senders of forwarded mail, and back (SRS). Only where mail is forwarded."""

from mailstack.services.ids import IDS
from mailstack.services.model import Limits, Secret, Service, Tmpfs

KEY = Secret("srs-key", "secrets/srs-key", "srs-key")

SERVICE = Service(
    "postsrsd",
    IDS.postsrsd,
    # It speaks TCP alone; Postfix and the resolver are the only others there.
    networks=("lookup",),
    limits=Limits(128, 512),
    grace=1,
    capabilities={
        "DAC_READ_SEARCH": "the entrypoint reads a secret that an ordinary user of the host owns with mode 0600,",
        "SETGID": "and becomes the user postsrsd,",
        "SETPCAP": "without any of these",
        "SETUID": "",
    },
    secrets=(KEY,),
    tmpfs=(Tmpfs("/run/postsrsd", 1, (IDS.postsrsd, IDS.postsrsd)),),
)
