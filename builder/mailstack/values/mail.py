"""The field's own kinds of value: domain names, mailboxes, selectors, records, numbers.

Each parser takes one token as a person typed it and returns its one canonical form, or raises ValueError with the
remedy. The token itself and the variable are added by whoever knows them (environment.py).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

import dns.exception
import dns.rdata
import idna
from pydantic import AfterValidator, ByteSize, TypeAdapter, ValidationError

from mailstack.errors import shown

# RFC 1035 section 2.3.4: 255 octets on the wire are 253 characters of text without the final dot.
MAX_NAME, MAX_LABEL = 253, 63
# RFC 5321 section 4.5.3.1.1.
MAX_LOCAL_PART = 64
MAX_HOSTNAME = 64  # hostname(7)
# RFC 8301 section 3.2: signers use at least 1024 bits, and should use 2048; verifiers refuse less than 1024.
MIN_KEY_BITS = 1024
GOOD_KEY_BITS = 2048
# The root's key-signing keys of 2017 and 2024, as IANA publishes them in root-anchors.xml and Debian in dns-root-data.
ROOT_ANCHORS = (
    ". DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D",
    ". DS 38696 8 2 683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16",
)

_T = TypeVar("_T")
_BYTES = TypeAdapter(ByteSize)
_TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SELECTOR = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?")
# RFC 5321 Dot-string, without the characters that are ours in lists and tables (comma, equals sign, slash) and
# without "!" and "%", which Postfix reads as source routes. A leading "#" would be a comment in a table, and Postfix
# takes no recipient with a leading "-" (postconf(5), allow_min_user).
_ATEXT = r"[a-z0-9#$&'*?^_`{|}~+-]+"
_LOCAL_PART = re.compile(rf"(?![#-]){_ATEXT}(?:\.{_ATEXT})*", re.IGNORECASE | re.ASCII)
_SEPARATORS = re.compile(r"[\s,]+")
_OWNER = re.compile(r"\.|(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?", re.IGNORECASE | re.ASCII)


def split_list(value: str) -> list[str]:
    """Split a list as people write it: tokens between commas, white space or both; empty ones do not count."""
    return [token for token in _SEPARATORS.split(value) if token]


def split_commas(value: str) -> list[str]:
    """Split a list whose tokens hold blanks: tokens between commas or line ends."""
    return [token.strip() for token in re.split(r"[,\n]", value) if token.strip()]


def boolean(token: object) -> object:
    """True or false, in the words that people use for it."""
    if not isinstance(token, str):
        return token
    if token.lower() not in _TRUTH:
        raise ValueError("is neither true nor false; write true or false")
    return _TRUTH[token.lower()]


def whole_number(low: int, high: int, what: str) -> Callable[[object], object]:
    """A parser of decimal whole numbers from low to high."""

    def parse(token: object) -> object:
        if not isinstance(token, str):
            return token
        if not re.fullmatch("[0-9]{1,9}", token) or not low <= int(token) <= high:
            raise ValueError(f"is not {what}; write a whole number from {low} to {high}")
        return int(token)

    return parse


def byte_size(least: int, most: int) -> Callable[[object], object]:
    """A parser of sizes in bytes, with or without a unit."""

    def parse(token: object) -> object:
        try:
            size = _BYTES.validate_python(token)
        except ValidationError:
            raise ValueError("is not a size; write bytes, or a number with kB, MB, KiB or MiB, such as 25MiB") from None
        if size < least:
            raise ValueError(f"is too small; {least // 1024}KiB is the least that every server takes (RFC 5321)")
        if size > most:
            raise ValueError(f"is too large; write {most // 1024**3}GiB or less")
        return size

    return parse


def domain_name(token: str) -> str:
    """A fully qualified host or mail domain: lower case, A-labels (RFC 5890), no final dot."""
    text = token.removesuffix(".")
    if not text or text.startswith("."):
        raise ValueError("is not a domain name; write it without a leading dot, such as example.com")
    if "*" in text:
        raise ValueError(
            "is a wildcard; list each domain by its own name, such as example.com; sub-domains have their own setting"
        )
    if not text.isascii():
        try:
            text = idna.encode(text, uts46=True).decode()
        except idna.IDNAError:
            raise ValueError(
                "holds a character that no domain name has (RFC 5891); write it such as example.com"
            ) from None
    text = text.lower()
    labels = text.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("is not a domain name; only letters, digits, hyphens and dots, without quotes")
    if len(labels) < 2 or labels[-1].isdigit():  # noqa: PLR2004
        raise ValueError("is not fully qualified; write a name with at least two labels, such as example.com")
    if len(text) > MAX_NAME:
        raise ValueError(f"is longer than {MAX_NAME} characters (RFC 1035); shorten it")
    return text


def public_name(name: str) -> str:
    """A host name that other servers can look up."""
    if name.endswith((".localhost", ".localdomain", ".local", ".invalid")):
        raise ValueError(
            "is a name that other servers cannot look up; write the name in the host's PTR record, such as "
            "mail.example.com"
        )
    if len(name) > MAX_HOSTNAME:
        raise ValueError(
            f"is longer than the {MAX_HOSTNAME} characters of a Linux host name; write a shorter one, such as "
            "mail.example.com"
        )
    return name


def selector(token: str) -> str:
    """A DKIM selector (RFC 6376 section 3.1) of one label."""
    text = token.lower()
    if "." in text and _SELECTOR.fullmatch(joined := text.replace(".", "-")):
        raise ValueError(f"has several labels, which is not supported; write one, such as {joined}")
    if not _SELECTOR.fullmatch(text):
        raise ValueError("is not a selector; use letters, digits and hyphens, such as default or s2026")
    return text


def mailbox(token: str) -> str:
    """An address user@domain; the local part in lower case, because mailboxes here do not depend on case."""
    local, at, domain = token.rpartition("@")
    if not at:
        raise ValueError("is not an address; write it such as user@example.com")
    if token.startswith("mailto:"):
        raise ValueError(f"is a URI; write {mailbox(re.sub('^(?:mailto:)+', '', token))}")
    if local in {"", "*"}:
        raise ValueError(
            "names no mailbox; catch-all addresses are not supported, list each one, such as user@example.com"
        )
    if not _LOCAL_PART.fullmatch(local) or len(local) > MAX_LOCAL_PART:
        raise ValueError(f"has a local part that cannot be used: {shown(local)}; letters, digits and . _ + - are safe")
    return f"{local.lower()}@{nested(domain_name, domain)}"


def snapshot(token: str | None) -> str | None:
    """A moment in UTC as archives of snapshots name their directories: ISO 8601, basic format."""
    if token is None or re.fullmatch(r"[0-9]{8}T[0-9]{6}Z", token, re.ASCII):
        return token
    raise ValueError("is not a moment in UTC; write it such as 20261101T000000Z")


@dataclass(frozen=True)
class Alias:
    """Mail for one address goes to another."""

    address: str
    target: str

    def __str__(self) -> str:
        return f"{self.address}={self.target}"


def alias(token: str) -> Alias:
    """ADDRESS=TARGET, both full addresses."""
    left, equals, right = token.partition("=")
    if not equals:
        raise ValueError("has no =; each alias has one target, such as info@example.com=user@example.com")
    return Alias(nested(mailbox, left), nested(mailbox, right))


def junk_address(address: str) -> str:
    """The address by which a mailbox's Junk is reached."""
    local, _, domain = address.rpartition("@")
    return f"{local}+quarantine@{domain}"


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
        raise ValueError(f"is not a trust anchor; write a DS or DNSKEY record, such as {ROOT_ANCHORS[-1]!r}")
    try:
        data = dns.rdata.from_text("IN", kind, " ".join(parts[2:]))
    except dns.exception.DNSException as error:
        raise ValueError(f"is not a {kind} record ({error}); write it such as {ROOT_ANCHORS[-1]!r}") from None
    return f"{parts[0]} IN {kind} {data.to_text()}"


def key_tag(anchor: str) -> int:
    """The tag of the key that a trust anchor stands for, by which people know it (RFC 4034 appendix B)."""
    _, _, kind, text = anchor.split(maxsplit=3)
    octets = dns.rdata.from_text("IN", kind, text).to_wire() or b""
    if kind == "DS":
        return int.from_bytes(octets[:2])
    total = sum(octet << 8 * (1 - at % 2) for at, octet in enumerate(octets))
    return (total + (total >> 16)) & 0xFFFF


def nested(parser: Callable[[str], _T], part: str) -> _T:
    """Parse a part of a token; the part is named in the message, since the caller only names the whole."""
    try:
        return parser(part)
    except ValueError as error:
        # A part of a part says its own name.
        named = str(error).startswith(("'", '"'))
        raise ValueError(str(error) if named else f"{shown(part)} {error}") from None


DomainName = Annotated[str, AfterValidator(domain_name)]
Selector = Annotated[str, AfterValidator(selector)]
Mailbox = Annotated[str, AfterValidator(mailbox)]
TrustAnchor = Annotated[str, AfterValidator(trust_anchor)]
