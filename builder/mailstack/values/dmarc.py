"""DMARC policy records as a person writes one (RFC 9989 section 4.7)."""

import re
from collections.abc import Callable
from typing import Annotated
from urllib.parse import quote, unquote

from pydantic import AfterValidator

from mailstack.errors import shown
from mailstack.values.mail import mailbox
from mailstack.values.tokens import nested

# What receivers read at all (mailstack_auth.dmarc.discovery).
_MAX_OCTETS = 4096
_POLICIES = ("none", "quarantine", "reject")
_FAILURES = re.compile(r"[01ds](?::[01ds])*")
# Appendix C.
_REMOVED = ("pct", "rf", "ri")
_EXAMPLE = "'v=DMARC1; p=reject; rua=mailto:dmarc@example.com'"


def dmarc_record(token: str) -> str:
    """A whole policy record: a blank behind each semicolon, tags in lower case, p= second as RFC 7489 asked for it."""
    if not token.isascii() or not token.isprintable() or '"' in token or "\\" in token:
        raise ValueError("has characters that a DMARC record cannot have; write it without quotes and backslashes")
    found = [(name.strip().lower(), value.strip()) for name, _, value in map(_parted, token.split(";")) if name.strip()]
    if not found or found[0] != ("v", "DMARC1"):
        if token.strip().lower().startswith("v=dmarc1"):
            raise ValueError("is not a DMARC record: the first tag is 'v=DMARC1;', in capitals and with its semicolon")
        raise ValueError(f"is not a DMARC record; a record starts with v=DMARC1, for example: {_EXAMPLE}")
    names = [name for name, _ in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ValueError(f"has {twice}= more than once, and receivers take either; keep one")
    if "p" not in names:
        raise ValueError("has no p=, so it asks for nothing; write p=none, p=quarantine or p=reject")
    found.sort(key=lambda one: (one[0] != "v", one[0] != "p"))
    record = "; ".join(f"{name}={_tag(name, value)}" for name, value in found)
    if len(record) > _MAX_OCTETS:
        raise ValueError(f"has {len(record)} characters, and receivers read {_MAX_OCTETS} at most; shorten it")
    return record


def policy(record: str) -> str:
    """The policy that it asks for."""
    return _tags(record)["p"]


def reported_to(record: str) -> tuple[str, ...]:
    """The addresses that get aggregate and failure reports (rua, ruf)."""
    found = _tags(record)
    uris = ",".join(found[name] for name in ("rua", "ruf") if name in found).split(",")
    return tuple(dict.fromkeys(unquote(one.partition(":")[2]) for one in uris if one))


def mailto(address: str) -> str:
    """An address as a record names it (RFC 6068 section 2); "," and "!" would have a meaning of their own."""
    return "mailto:" + quote(address, safe="@+$'*")


def _parted(text: str) -> tuple[str, str, str]:
    return text.partition("=")


def _tags(record: str) -> dict[str, str]:
    return {name: value for name, _, value in map(_parted, record.split("; "))}


def _tag(name: str, value: str) -> str:
    """The value of a tag, as it is published."""
    if name in _REMOVED:
        raise ValueError(f"has {name}=, which was removed from DMARC (RFC 9989), and receivers ignore it; remove it")
    if name not in _TAGS:
        raise ValueError(f"has {shown(name)}, which is no tag of DMARC; the tags are {', '.join(_TAGS)}")
    return _TAGS[name](f"{name}=", value)


def _one_of(*values: str) -> Callable[[str, str], str]:
    def see(name: str, value: str) -> str:
        if value.lower() not in values:
            raise ValueError(f"has {shown(name + value)}; write {name} with one of {', '.join(values)}")
        return value.lower()

    return see


def _failures(name: str, value: str) -> str:
    if not _FAILURES.fullmatch(value.lower()):
        raise ValueError(f"has {shown(name + value)}; write {name} with 0, 1, d or s, separated by colons")
    return value.lower()


def _addresses(_: str, value: str) -> str:
    return ",".join(mailto(nested(_address, one.strip())) for one in value.split(","))


def _address(uri: str) -> str:
    scheme, colon, address = uri.partition(":")
    if scheme.lower() != "mailto" or not colon:
        raise ValueError("is no mailto: URI; write, for example: mailto:dmarc@example.com")
    if "!" in address:
        raise ValueError("has a size limit, which was removed from DMARC (RFC 9989); remove it")
    return nested(mailbox, unquote(address))


_TAGS: dict[str, Callable[[str, str], str]] = {
    "v": lambda _, value: value,
    "p": _one_of(*_POLICIES),
    "sp": _one_of(*_POLICIES),
    "np": _one_of(*_POLICIES),
    "adkim": _one_of("r", "s"),
    "aspf": _one_of("r", "s"),
    "t": _one_of("y", "n"),
    # "y" is for registries.
    "psd": _one_of("n", "u"),
    "rua": _addresses,
    "ruf": _addresses,
    "fo": _failures,
}

DmarcRecord = Annotated[str, AfterValidator(dmarc_record)]
