"""DNSSEC trust anchors."""

import re
from typing import Annotated

import dns.exception
import dns.rdata
from pydantic import AfterValidator

from mailstack.errors import shown

# The root's key-signing keys of 2017 and 2024, as IANA publishes them in root-anchors.xml and Debian in dns-root-data.
ROOT_ANCHORS = (
    ". DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D",
    ". DS 38696 8 2 683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16",
)
_OWNER = re.compile(r"\.|(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?", re.IGNORECASE | re.ASCII)


def trust_anchor(token: str) -> str:
    """A DS or DNSKEY record in presentation form (RFC 4034), owner name first."""
    parts = token.split()
    if parts and not _OWNER.fullmatch(parts[0]):
        raise ValueError(f"is not a trust anchor; {shown(parts[0])} is not a domain name, as in {ROOT_ANCHORS[-1]!r}")
    for ignored in ("IN", "in"):
        if ignored in parts[1:3]:
            parts.remove(ignored)
    kind = parts[1].upper() if len(parts) > 1 else ""
    if kind not in {"DS", "DNSKEY"}:
        raise ValueError(f"is not a trust anchor; write a DS or DNSKEY record, for example: {ROOT_ANCHORS[-1]!r}")
    try:
        data = dns.rdata.from_text("IN", kind, " ".join(parts[2:]))
    except dns.exception.DNSException as error:
        raise ValueError(f"is not a {kind} record ({error}); write, for example: {ROOT_ANCHORS[-1]!r}") from None
    return f"{parts[0]} IN {kind} {data.to_text()}"


def key_tag(anchor: str) -> int:
    """The tag of the key that a trust anchor stands for, by which people know it (RFC 4034 appendix B)."""
    _, _, kind, text = anchor.split(maxsplit=3)
    octets = dns.rdata.from_text("IN", kind, text).to_wire() or b""
    if kind == "DS":
        return int.from_bytes(octets[:2])
    total = sum(octet << 8 * (1 - at % 2) for at, octet in enumerate(octets))
    return (total + (total >> 16)) & 0xFFFF


TrustAnchor = Annotated[str, AfterValidator(trust_anchor)]
