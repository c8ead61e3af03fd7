"""dmarc: a milter with two roles, each on sockets of its own.

It checks mail from outside (inbound.py), and our own mail before it is signed and after (submission).
"""

import json
import mmap
import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mailstack_auth.dmarc.inbound import Inbound, log
from mailstack_auth.dns.lookup import Lookups
from mailstack_auth.milter.message import Judge
from mailstack_auth.milter.session import Session
from mailstack_auth.runtime.counts import Counts
from mailstack_auth.runtime.deferrals import Deferrals
from mailstack_auth.runtime.serving import Serving
from mailstack_auth.site import Site
from mailstack_auth.spf.results import SpfResults
from mailstack_auth.submission.judges import Signed, Submission
from mailstack_auth.submission.limits import Limits

SPF_RESULTS, SPF_SOCKET = Path("/run/spf-memory/results"), Path("/run/policyd-spf/results.sock")
CONFIGURATION = Path("/etc/dmarc/dmarc.json")
# Under this authserv-id OpenDKIM writes what it finds. Nobody outside knows it.
INTERNAL_ID = Path("/run/dmarc/authserv-id")
# Who waits for DNS; on a tmpfs, so that it outlives a worker and not the container.
DEFERRALS = Path("/run/dmarc/deferrals.json")
COUNTS = Path("/run/dmarc/counts.json")

GRACE_SECONDS = 25.0
# Postfix's biggest piece of a message, twice.
_INPUT_OCTETS = 128 * 1024


def work(sockets: Sequence[socket.socket], _shared: mmap.mmap) -> None:
    """Serve until TERM: mail from outside on the first socket, our own on the second one, and signed on the third."""
    site = Site.from_json(json.loads(CONFIGURATION.read_text()))
    internal_id = INTERNAL_ID.read_text().strip()
    deferrals = Deferrals(DEFERRALS, site.dns_hours * 3600)
    results = SpfResults(SPF_RESULTS, SPF_SOCKET)
    counts = Counts(COUNTS, log)
    inbound = Inbound(site, internal_id, results, Lookups(), deferrals=deferrals, counts=counts)
    limits = Limits(site.user_messages, site.user_recipients, site.user_minutes, site.user_sessions)
    judges: tuple[Judge, ...] = (inbound, Submission(site, internal_id), Signed(site, internal_id, limits))
    sessions = {sock: partial(Session, judge=judge) for sock, judge in zip(sockets, judges, strict=True)}
    Serving(log, _INPUT_OCTETS).run(sessions, GRACE_SECONDS)
