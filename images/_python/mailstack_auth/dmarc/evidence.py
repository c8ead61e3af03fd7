"""What is known of a message from outside, before anything is decided."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from mailstack_auth.dkim.signatures import Signature
from mailstack_auth.dmarc.discovery import Published
from mailstack_auth.milter.message import Delete
from mailstack_auth.spf.judgement import Judgement


@dataclass(frozen=True)
class Reading:
    """What a message says of itself, and OpenDKIM of its signatures."""

    # None: From claims no domain.
    author: str | None
    # The envelope sender's domain; None for the null sender, and for what is no domain.
    sender: str | None
    signatures: tuple[Signature, ...]
    # What others wrote and nobody may take for ours.
    removals: Sequence[Delete]
    # Why there is no author that all readers agree on; empty if there is.
    ambiguous: str = ""


class TempFailure(NamedTuple):
    """A DNS lookup that failed, and the domain that it might authenticate; empty for a DMARC record."""

    what: str
    domain: str = ""
    by: Literal["spf", "dkim"] = "dkim"


class Evidence(NamedTuple):
    """What is known of a message. Domains are in lower case and A-labels."""

    client: str
    # The envelope sender's domain; None for the null sender, and for what is no domain.
    sender: str | None
    # None: From claims no domain (a notice of an old mail server).
    author: str | None
    spf: Judgement
    signatures: tuple[Signature, ...]
    published: Published | None = None
    # pass, fail, none, permerror or temperror (RFC 9989 section 9.2).
    dmarc: str = "none"
    spf_aligned: bool = False
    dkim_aligned: bool = False
    # What could make a DMARC pass of it.
    failure: TempFailure | None = None
    # What could authenticate a domain, aligned or not.
    failures: tuple[TempFailure, ...] = ()
    # Whether a recipient's mail goes on to another server.
    forwarded: bool = False
    # The envelope sender is one that this host has made for forwarded mail (SRS), or looks like it.
    returned: bool = False
    # Whether the author's domain and the host name have one organizational domain, where that matters; None when DNS
    # does not answer.
    akin: bool | None = False

    def authenticated(self) -> Iterable[str]:
        """Domains that SPF or DKIM has authenticated."""
        if self.spf.passed:
            yield self.spf.passed
        yield from (one.domain for one in self.signatures if one.result == "pass" and one.domain)

    @property
    def indirect(self) -> bool:
        """Whether any domain is authenticated: who passed the message on can be held to account for it."""
        return any(True for _ in self.authenticated())


def passes(found: Iterable[Signature]) -> set[str]:
    """The domains of the signatures that pass."""
    return {one.domain for one in found if one.result == "pass" and one.domain}
