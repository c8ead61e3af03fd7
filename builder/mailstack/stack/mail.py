"""How mail is signed and judged."""

import hashlib
from dataclasses import dataclass
from typing import Literal

from mailstack.values.dnsbl import Dnsbl
from mailstack.values.mail import MAX_LABEL
from mailstack.values.network import Network
from mailstack.values.servers import IMPLICIT_TLS, HostPort, NextHop

# The milter sockets as Postfix sees them from its chroot. Without dmarc nothing is judged, whatever the default action.
OPENDKIM = "unix:opendkim/opendkim.sock"
DMARC_OUTSIDE = "{ unix:dmarc/outside.sock, default_action=tempfail }"
DMARC_INSIDE = "{ unix:dmarc/inside.sock, default_action=tempfail }"
DMARC_SIGNED = "{ unix:dmarc/signed.sock, default_action=tempfail }"

# Below this name, which nobody has (RFC 2606), are the domains of recipients whose mail leaves by an alias.
SRS_MARK = "srs.invalid"


@dataclass(frozen=True)
class Delivery:
    """Where mail for a domain goes.

    hop is the mailbox server, None for Maildirs; asked says whether that server knows the addresses, not the site.
    """

    domain: str
    hop: NextHop | None
    asked: bool


@dataclass(frozen=True)
class Relay:
    """The server by which mail of a sender's domain leaves, without one that of all others.

    certificate is the name that its certificate must be for, None where TLS is not demanded; login the secret file with
    user and password, from the site's directory.
    """

    domain: str | None
    server: HostPort
    certificate: str | None
    login: str | None

    @property
    def transport(self) -> str:
        """Its own transport of Postfix (master.cf), which has its login and shares no connection with another."""
        return f"relayhost-{self._short}" if self.domain else "relayhost"

    @property
    def secret(self) -> str:
        """Where Postfix's container has the login, below /run/secrets."""
        return f"relay-login-{self._short}" if self.domain else "relay-login"

    @property
    def _short(self) -> str:
        """The domain, or a digest of a long one: the path of a socket has 108 octets (unix(7)), a file's name 255."""
        domain = self.domain or ""
        return domain if len(domain) <= MAX_LABEL else hashlib.sha256(domain.encode()).hexdigest()[:16]

    @property
    def tls_first(self) -> bool:
        """Whether TLS comes first (RFC 8314 section 3)."""
        return self.server.port == IMPLICIT_TLS

    @property
    def hop(self) -> str:
        """The server as tables name it; no MX is asked for."""
        return f"[{self.server.host}]" + (f":{self.server.port}" if self.server.port else "")


@dataclass(frozen=True)
class SigningRow:
    """Mail whose author domain is name (or below it, with a leading dot) is signed by the key."""

    name: str
    key: str


@dataclass(frozen=True)
class SpfActions:
    """What policyd-spf does with each result that is not harmless."""

    fail: str
    softfail: str
    permerror: str
    temperror: str
    # How long a temperror makes mail wait.
    hours: int


@dataclass(frozen=True)
class ClientLimits:
    """What one client that is not trusted may do on a port, and one user who is logged in, in so many minutes.

    0: without a limit.
    """

    sessions: int
    connections: int
    messages: int
    recipients: int
    minutes: int
    user_sessions: int
    user_messages: int
    user_recipients: int
    user_minutes: int


@dataclass(frozen=True)
class Screening:
    """What postscreen(8) asks about new clients: lists, and the sum of weights at which a client is rejected."""

    lists: tuple[Dnsbl, ...]
    threshold: int


@dataclass(frozen=True)
class Judging:
    """What the dmarc milter does about mail from outside."""

    dmarc: Literal["follow", "reject", "mark"]
    # "reject" and "defer" are its own part; the other values are policyd-spf's.
    spf_fail: str
    spf_temperror: str
    # None: local domains are not its business.
    local_sender: Literal["discard", "reject"] | None
    skip_networks: tuple[Network, ...]
    skip_domains: tuple[str, ...]
    # How long a message waits for DNS, and what happens to it then.
    dns_hours: int
    dns_action: Literal["quarantine", "reject"]
    # Whose mail leaves with a signature or not at all: these domains, and names below those.
    signed: tuple[str, ...]
    signed_below: tuple[str, ...]
    # The domains and further addresses whose quarantined mail goes to a mailbox's Junk.
    junk: tuple[str, ...]
