"""spf-engine and pyspf, without a thread or a process for each message.

Both are written to wait for DNS. Here each evaluation runs in a greenlet of its own: where pyspf asks DNS, the greenlet
hands the question to the event loop and sleeps until the answer is there, while the loop serves everybody else.
"""

import re
import socket
from collections.abc import Iterable
from typing import Any, Literal, cast

import greenlet
import spf as pyspf
import spf_engine

from mailstack_auth.dns.lookup import Answer, Lookups

# RFC 7208 section 4.6.4: at least 20 seconds for an evaluation, two terms with void look-ups. pyspf: ten look-ups.
MAX_SECONDS = 20.0
MAX_VOID_LOOKUPS = 2
# For the addresses of one of the client's names. One that is silent is left out (RFC 7208 section 5.5), and leaves time
# for the others.
NAME_SECONDS = 4.0
# RFC 1035 section 2.3.4, without the final dot.
MAX_NAME = 253

Identity = Literal["helo", "mailfrom"]

# One identity at a time, each result reported and none acted upon. spf-engine's own actions get in each other's way: a
# HELO fail beats a MAIL FROM pass, and 'False' for HELO_reject or Mail_From_reject switches off TempError_Defer and
# PermError_reject as well. Its header copies what a client sent. Actions and header are in policy.py.
_ENGINE = {
    "debugLevel": -1,
    "skip_addresses": "127.0.0.0/8",  # it fails without one
    "Void_Limit": MAX_VOID_LOOKUPS,
    "Lookup_Time": MAX_SECONDS,
    "Header_Type": "SPF",
}
_SCOPES = {
    "helo": _ENGINE | {"HELO_reject": "False"},
    "mailfrom": _ENGINE | {"HELO_reject": "No_Check", "Mail_From_reject": "False"},
}


class OutOfTimeError(pyspf.TempError):  # type: ignore[misc]
    """The time limit for an evaluation is over."""


def evaluate(identity: Identity, client: str, helo: str, sender: str) -> tuple[str, str]:
    """Run in a greenlet: the result and the reason."""
    data = {
        "client_address": client,
        "helo_name": helo[-MAX_NAME:],
        "sender": sender,
        "recipient": "",
        "instance": "one",
    }
    table: dict[str, list[Any]] = {}
    said = spf_engine._spfcheck(data, table, _SCOPES[identity], peruser=False, peruserconfigData=None)  # noqa: SLF001
    if "one" not in table:
        # spf-engine catches whatever pyspf raises and says "dunno", which would let the message in unjudged. pyspf
        # raises where it cannot make sense of a record.
        return "permerror", f"the record cannot be evaluated ({said[1]!a:.100})"
    result, reason, _ = table["one"][:3]
    return str(result).lower(), str(reason)


# What a worker hands to the loop: a question for DNS, or None if others may have their turn.
Wish = tuple[str, str, float] | None


class Worker(greenlet.greenlet):  # type: ignore[misc]
    """An evaluation in progress."""

    lookups: Lookups
    # The names and types that it has asked for.
    asked: list[tuple[str, str]]
    # A record has a macro (RFC 7208 section 7): the result may be another one for another local part, or HELO.
    personal: bool
    # The client's names that lead back to it; None while nobody has asked for them.
    names: list[str] | None = None


def _ask(name: str, kind: str, strict: object = True, timeout: float = MAX_SECONDS) -> list[Answer]:  # noqa: ARG001, FBT002
    """In place of spf.DNSLookup, whose signature this is: the event loop asks DNS and switches back."""
    worker = greenlet.getcurrent()
    worker.asked.append((name, kind))
    answers: list[Answer] | None = worker.lookups.known(name, kind)
    if answers is None:
        answers = worker.parent.switch((name, kind, timeout))
    if kind == "TXT":
        worker.personal |= any(b"%" in text for _, (text,) in cast("list[tuple[object, tuple[bytes]]]", answers))
    return answers


def _validated_names(query: Any) -> list[str]:  # noqa: ANN401
    """In place of spf.query.validated_ptrs: the client's names that lead back to it, looked up once in an evaluation.

    Whoever owns the client's address writes them. What is wrong with one of them is no match (RFC 7208 section 5.5) and
    costs the sender's domain nothing: upstream makes a temperror of an error, and counts void look-ups.
    """
    worker: Worker = greenlet.getcurrent()
    if worker.names is None:
        names = _of_client(f"{pyspf.reverse_dots(query.i)}.{query.v}.arpa", "PTR", MAX_SECONDS)[: pyspf.MAX_PTR]
        worker.names = [
            name for name in names if query.cidrmatch(_of_client(name, query.A, NAME_SECONDS), query.cidrmax)
        ]
    return worker.names


def _of_client(name: str, kind: str, seconds: float) -> list[Any]:
    """The values at a name that is the client's own; nothing for an error of DNS or an absurd answer."""
    try:
        return [value for _, value in _ask(name.lower(), kind, timeout=seconds)]
    except OutOfTimeError:
        raise
    except (pyspf.TempError, pyspf.PermError):
        return []


def _mx_addresses(query: Any, domain: str) -> list[str]:  # noqa: ANN401
    """In place of spf.query.dns_mx: void at most once, since the limit is one of terms (RFC 7208 section 4.6.4)."""
    hosts = [host for _, host in query.dns(domain, "MX")]
    if len(hosts) > pyspf.MAX_MX:
        raise pyspf.PermError(f"more than {pyspf.MAX_MX} MX records")
    # A host without a name is "no mail here" (RFC 7505).
    found = [query.dns(host, query.A, ignore_void=True) for host in hosts if host]
    query.void_lookups += not all(found)
    if query.void_lookups > MAX_VOID_LOOKUPS:
        raise pyspf.PermError(f"more than {MAX_VOID_LOOKUPS} terms with void look-ups")
    return [address for addresses in found for address in addresses]


def _matches(query: Any, addresses: Iterable[str], prefix: int) -> bool:  # noqa: ANN401
    """In place of spf.query.cidrmatch, which takes 20 times as long: ten "mx" may come to ten thousand addresses."""
    family, bits = (socket.AF_INET, 32) if query.A == "A" else (socket.AF_INET6, 128)
    wanted = int(query.ipaddr) >> (bits - prefix)
    return any(int.from_bytes(socket.inet_pton(family, one), "big") >> (bits - prefix) == wanted for one in addresses)


def _evaluate_record(query: Any, record: str | None, recursion: int) -> Any:  # noqa: ANN401
    """In place of spf.query.check0: between two records the loop serves others, even if DNS is all known."""
    if query.lookups:
        greenlet.getcurrent().parent.switch(None)
    return _check0(query, record, recursion)


def _no_explanation(query: Any, name: str) -> None:  # noqa: ANN401
    """In place of spf.query.get_explanation: nobody is shown it (RFC 7208 section 6.2), so nobody asks for it."""


# In place of spf.RE_TOPLAB: says the same of the end of a domain-spec (RFC 7208 section 7.1, toplabel), in linear time.
_TOP_LABEL = re.compile(r"\.(?!\d+\.?$)[0-9a-z](?:[0-9a-z-]*[0-9a-z])?\.?$|" + pyspf.PAT_CHAR, re.IGNORECASE)

pyspf.DNSLookup = _ask
pyspf.query.validated_ptrs = _validated_names
pyspf.query.dns_mx = _mx_addresses
pyspf.query.cidrmatch = _matches
pyspf.query.get_explanation = _no_explanation
pyspf.RE_TOPLAB = _TOP_LABEL
_check0, pyspf.query.check0 = pyspf.query.check0, _evaluate_record
# Whether the client is in skip_addresses, which is parsed anew for each check; they are the policy's business.
spf_engine._cidrmatch = lambda _client, _network: False  # noqa: SLF001
