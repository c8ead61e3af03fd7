"""Domain names, mailboxes, aliases, selectors."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

import idna
from pydantic import AfterValidator

from mailstack.errors import shown
from mailstack.values.tokens import nested

# RFC 1035 section 2.3.4: 255 octets on the wire are 253 characters of text without the final dot.
MAX_NAME, MAX_LABEL = 253, 63
# RFC 5321 section 4.5.3.1.1.
MAX_LOCAL_PART = 64
MAX_HOSTNAME = 64  # hostname(7)
# RFC 8301 section 3.2: signers use at least 1024 bits, and should use 2048; verifiers reject less than 1024.
MIN_KEY_BITS = 1024
GOOD_KEY_BITS = 2048
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SELECTOR = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?")
# RFC 5321 Dot-string, without what is ours in lists and tables (comma, equals sign, slash), what old servers read as
# source routes ("!" and "%"), and "*", which is meant as a pattern. A leading "#" would be a comment in a table, and
# Postfix takes no recipient with a leading "-" (postconf(5), allow_min_user).
_ATEXT = r"[a-z0-9#$&'?^_`{|}~+-]+"
_LOCAL_PART = re.compile(rf"(?![#-]){_ATEXT}(?:\.{_ATEXT})*", re.IGNORECASE | re.ASCII)


def domain_name(token: str) -> str:
    """A fully qualified host or mail domain: lower case, A-labels (RFC 5890), no final dot."""
    text = token.removesuffix(".")
    if not text or text.startswith("."):
        raise ValueError("is not a domain name; write it without a leading dot, for example: example.com")
    if "*" in text:
        raise ValueError(
            "is a wildcard; list each domain by its own name, such as example.com; sub-domains have their own setting"
        )
    if not text.isascii():
        try:
            text = idna.encode(text, uts46=True).decode()
        except idna.IDNAError:
            raise ValueError(
                "has a character that domain names cannot have (RFC 5891); write, for example: example.com"
            ) from None
    text = text.lower()
    labels = text.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("is not a domain name; use only letters, digits, hyphens and dots, without quotes")
    if len(labels) < 2 or labels[-1].isdigit():  # noqa: PLR2004
        raise ValueError("is not fully qualified; write a name with at least two labels, such as example.com")
    if len(text) > MAX_NAME:
        raise ValueError(f"is longer than {MAX_NAME} characters (RFC 1035); shorten it")
    if labels[-1] == "invalid":
        raise ValueError("is a name that nobody can have (RFC 2606); write a real one, such as example.com")
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
        raise ValueError("is not a selector; use letters, digits and hyphens, for example: s2026")
    return text


def mailbox(token: str) -> str:
    """An address user@domain; the local part in lower case, because mailboxes here do not depend on case."""
    local, at, domain = token.rpartition("@")
    if not at:
        raise ValueError("is not an address; write, for example: user@example.com")
    if token.startswith("mailto:"):
        raise ValueError(f"is a URI; write {mailbox(re.sub('^(?:mailto:)+', '', token))}")
    if local in {"", "*"}:
        raise ValueError(
            "names no mailbox; write each address, for example: user@example.com. What gets the mail for all other "
            "addresses of a domain is an alias: *@example.com=user@example.com"
        )
    if not _LOCAL_PART.fullmatch(local) or len(local) > MAX_LOCAL_PART:
        raise ValueError(f"has a local part that cannot be used: {shown(local)}; use letters, digits and . _ + -")
    return f"{local.lower()}@{nested(domain_name, domain)}"


@dataclass(frozen=True)
class Alias:
    """Mail for one address goes to another; an address may have several.

    "*@domain" stands for all addresses of a domain that nothing else is said of (catch_all()).
    """

    address: str
    target: str

    def __str__(self) -> str:
        return f"{self.address}={self.target}"


def alias(token: str) -> Alias:
    """ADDRESS=TARGET, both full addresses; or *@DOMAIN=TARGET."""
    left, equals, right = token.partition("=")
    if not equals:
        raise ValueError(
            "has no =; write ADDRESS=TARGET for each target, for example: info@example.com=user@example.com"
        )
    local, _, domain = left.rpartition("@")
    address = catch_all(nested(domain_name, domain)) if local == "*" else nested(mailbox, left)
    return Alias(address, nested(mailbox, right))


def catch_all(domain: str) -> str:
    """How all addresses of a domain that nothing else is said of are written."""
    return f"*@{domain}"


def is_catch_all(address: str) -> bool:
    """Whether an alias is the catch-all of its domain."""
    return address.startswith("*@")


def known_as(address: str, among: Collection[str]) -> str | None:
    """As which of some addresses Postfix knows one: as it stands, else without its extension (recipient_delimiter).

    Where none of these is listed, by the catch-all of its domain.
    """
    local, _, domain = address.rpartition("@")
    plain = f"{local.partition('+')[0]}@{domain}"
    return next((one for one in (address, plain, catch_all(domain)) if one in among), None)


def by_address(aliases: Iterable[Alias], mailboxes: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Each alias with its targets; where a catch-all would take the mail of a mailbox, that has itself as a target."""
    listed = tuple(aliases)
    catching = {one.address for one in listed}
    spared = [Alias(one, one) for one in mailboxes if catch_all(domain_of(one)) in catching]
    found: dict[str, dict[str, None]] = {}
    for one in (*spared, *listed):
        found.setdefault(one.address, {})[one.target] = None
    return {address: tuple(targets) for address, targets in found.items()}


def leading(targets: Mapping[str, Iterable[str]], wanted: Callable[[str], bool]) -> set[str]:
    """The aliases, each with its targets, that lead to a target that is wanted, by whatever way."""
    before: dict[str | None, list[str]] = {}
    for address, to in targets.items():
        for one in to:
            before.setdefault(known_as(one, targets), []).append(address)
    found = set[str]()
    left = [address for address, to in targets.items() if any(map(wanted, to))]
    while left:
        address = left.pop()
        if address not in found:
            found.add(address)
            left += before.get(address, ())
    return found


def domain_of(address: str) -> str:
    """The domain of an address."""
    return address.rpartition("@")[2]


def junk_address(address: str) -> str:
    """The address by which a mailbox's Junk is reached."""
    local, _, domain = address.rpartition("@")
    return f"{local}+quarantine@{domain}"


DomainName = Annotated[str, AfterValidator(domain_name)]
Selector = Annotated[str, AfterValidator(selector)]
Mailbox = Annotated[str, AfterValidator(mailbox)]
