"""One SPF evaluation by spf-engine, what to do about it, and the header that records it (RFC 7208)."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import spf as pyspf
import spf_engine

from mailstack_auth.lookup import look_up

pyspf.DNSLookup = look_up

# RFC 7208 section 4.6.4.
MAX_VOID_LOOKUPS = 2
MAX_SECONDS = 20

# spf-engine evaluates HELO and MAIL FROM and picks the one that counts: MAIL FROM, or HELO where there is no
# envelope sender or its domain publishes nothing. 'False' makes it report every result and act on none: its own
# actions switch each other off (HELO_reject and Mail_From_reject at 'False' disable TempError_Defer and
# PermError_reject), and its header holds what the client sent without quoting. Both are done here.
_ENGINE = {
    "debugLevel": -1,
    "skip_addresses": "::1/128",  # it fails without one; Postfix asks about no loopback client
    "HELO_reject": "False",
    "Mail_From_reject": "False",
    "Void_Limit": MAX_VOID_LOOKUPS,
    "Lookup_Time": MAX_SECONDS,
    "Header_Type": "SPF",
}

# RFC 5322 section 3.2.3.
_DOT_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
# An address is at most 64 + 1 + 255 octets (RFC 5321 section 4.5.3.1); with the quoting of two such values the field
# stays below the 998 octets of a line (RFC 5322 section 2.1.1).
_MAX_VALUE = 320

_RESULTS = {"Pass", "Fail", "Softfail", "Neutral", "None", "Temperror", "Permerror"}


class EvaluationError(Exception):
    """spf-engine gave no result, which says nothing about the message."""


@dataclass(frozen=True)
class Policy:
    """The site's settings: what to do with each result, and whom not to judge."""

    hostname: str
    actions: Mapping[str, str]
    skip_networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Policy":
        return cls(
            hostname=data["hostname"],
            actions=data["actions"],
            skip_networks=tuple(ipaddress.ip_network(one) for one in data["skip_networks"]),
        )


@dataclass(frozen=True)
class Verdict:
    """A result, the identity it belongs to ('mailfrom' or 'helo'), and the action for Postfix (access(5))."""

    result: str
    identity: str
    domain: str
    action: str


def judge(request: Mapping[str, str], policy: Policy) -> Verdict:
    """Evaluate one message. Raises EvaluationError where there is no result to act on."""
    client = request.get("client_address", "")
    helo, sender = request.get("helo_name", ""), request.get("sender", "")
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        raise EvaluationError(f"no client address: {client!r}") from None
    if any(address in network for network in policy.skip_networks):
        return Verdict(
            "skipped", "none", "", f"PREPEND X-SPF-Skipped: {policy.hostname} trusts {address} to hand on mail"
        )
    result, identity = _evaluate(client, helo, sender)
    domain = sender.rpartition("@")[2] if identity == "mailfrom" else helo
    if policy.actions.get(result.lower(), "tag") == "tag":
        return Verdict(result, identity, domain, f"PREPEND {_header(result, identity, request, policy)}")
    return Verdict(result, identity, domain, _refusal(result, identity, domain, client))


def _evaluate(client: str, helo: str, sender: str) -> tuple[str, str]:
    # Postfix hands on a local part without its quotes and a domain with its final dot. pyspf takes the first "@" for
    # the separator and finds no record for a name with a dot behind it, so either would hide a domain's -all.
    local, at, domain = sender.rpartition("@")
    data = {
        "client_address": client,
        "helo_name": helo.rstrip("."),
        "sender": f"{local.replace('@', '=40')}{at}{domain.rstrip('.')}",
        "recipient": "",
        "instance": "one",
    }
    table: dict[str, list[Any]] = {}
    spf_engine._spfcheck(data, table, _ENGINE, peruser=False, peruserconfigData=None)  # noqa: SLF001
    try:
        result, _reason, identity = table["one"][:3]
    except (KeyError, ValueError):
        # spf-engine catches what pyspf raises and answers "dunno", which would let the message in unjudged.
        raise EvaluationError("spf-engine gave no result") from None
    if result not in _RESULTS:
        raise EvaluationError(f"spf-engine gave {result!r}")
    return result, identity


def _refusal(result: str, identity: str, domain: str, client: str) -> str:
    """Status codes of RFC 7372 section 3.2. The domain is named only if it looks like one."""
    name = domain.lower() if re.fullmatch(r"[A-Za-z0-9_.-]{1,253}", domain) else "the sender's domain"
    scope = "MAIL FROM" if identity == "mailfrom" else "HELO"
    if result == "Temperror":
        return f"DEFER_IF_PERMIT 4.7.24 SPF of {scope} {name} cannot be checked now; DNS gives no answer"
    if result == "Permerror":
        return f"550 5.7.24 SPF of {scope} {name} cannot be checked; its record is broken"
    return f"550 5.7.23 SPF {result.lower()}: {client} may not send with {scope} {name}"


def _header(result: str, identity: str, request: Mapping[str, str], policy: Policy) -> str:
    """Received-SPF by the grammar of RFC 7208 section 9.1; a value that the grammar cannot hold is left out."""
    pairs = [
        ("identity", identity),
        ("client-ip", request["client_address"]),
        ("helo", request.get("helo_name", "")),
        ("envelope-from", request.get("sender", "")),
        ("receiver", policy.hostname),
    ]
    quoted = ((name, _value(value)) for name, value in pairs)
    fields = "; ".join(f"{name}={value}" for name, value in quoted if value is not None)
    return f"Received-SPF: {result} ({identity}) {fields}"


def _value(value: str) -> str | None:
    """A dot-atom or a quoted-string."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    if not value.isascii() or not value.isprintable() or len(escaped) > _MAX_VALUE:
        return None
    return value if _DOT_ATOM.fullmatch(value) else f'"{escaped}"'
