"""Postfix. It has the sockets of all others."""

from mailstack.services.ids import IDS
from mailstack.services.model import QUEUE_DIRECTORY, Kept, Limits, Service, Tmpfs, Volume

MAIL = Volume("mail", "/var/vmail", kept=Kept("mail", final=True))
# A message is complete when its owner may execute the file (mail_queue.h). The other directories have what bounce(8),
# defer(8), trace(8) and flush(8) note about messages, and what Postfix or a person has put aside.
QUEUE = Volume(
    "queue",
    QUEUE_DIRECTORY,
    kept=Kept(
        "queue",
        dict.fromkeys(("maildrop", "incoming", "active", "deferred", "hold"), 0o100)
        | dict.fromkeys(("bounce", "defer", "trace", "flush", "corrupt", "saved"), 0),
    ),
)
SCREENED = Volume("postscreen", "/var/lib/postscreen")
CERTIFICATES = "/etc/mailstack/tls"

SERVICE = Service(
    "postfix",
    IDS.postfix,
    networks=("edge", "lookup"),
    limits=Limits(1536, 1024),
    grace=60,
    capabilities={
        "CHOWN": '"postfix check" gives new queue directories to their users',
        "DAC_OVERRIDE": "master and postlogd work as root in directories of the user postfix",
        "FOWNER": "and then sets their modes",
        "KILL": "master ends processes of the user postfix",
        "NET_BIND_SERVICE": "ports 25, 465 and 587",
        "SETGID": "the processes drop root,",
        "SETUID": "and mailboxes are written as their owner",
        "SYS_CHROOT": "into the queue directory",
    },
    volumes=(QUEUE, Volume("certificates", "/var/lib/certificates", kept=Kept("certificates in use"))),
    tmpfs=(Tmpfs("/var/lib/postfix", 16, (IDS.postfix, IDS.postfix)), Tmpfs("/tmp", 16)),  # noqa: S108
    overridable={"main.cf": "etc/postfix/main.cf", "master.cf": "etc/postfix/master.cf"},
)
