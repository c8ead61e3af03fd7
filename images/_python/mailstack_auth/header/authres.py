"""The Authentication-Results field (RFC 8601): which of a message's are ours, and how one is written."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import NamedTuple

from mailstack_auth.header.fields import Fields

NAME = b"Authentication-Results"

# An escaped octet, an end of a comment, or what is neither.
_PIECE = re.compile(rb"\\.|[()]|[^\\()]+", re.DOTALL)
# Between the octets of an id, for those who read loosely: folds, quotes and the backslashes of quoted pairs.
_LEFT_OUT = rb'[\s\\"]*+'
# What may stand in a value without quotes (RFC 2045 section 5.1, token).
_TOKEN = re.compile(r"[!#-'*+.0-9A-Z^-z{|}~-]+")
_UNPRINTABLE, _QUOTE, _BRACKET = re.compile(r"[^ -~]"), re.compile(r'["\\]'), re.compile(r"[()]")


class Claim(NamedTuple):
    """A field, and whose results some reader might take its own for."""

    # Which one of its name, from 1.
    at: int
    results: bytes
    # What stands before the results, in lower case; with comments and, if there are any, without, since a comment may
    # hold a semicolon, and what looks like a comment may be none to others.
    starts: tuple[bytes, ...]

    def of(self, identity: str) -> bool:
        """Whether they might be this authserv-id's.

        The id may stand behind comments, in quotes and with quoted pairs (section 2.2), and before a version. Who reads
        loosely finds it in still other places before the first semicolon, so anywhere there will do.
        """
        ours = _spellings(identity)
        return any(ours.search(one) for one in self.starts)

    @property
    def disguised(self) -> bool:
        """Whether the authserv-id holds an encoded word (RFC 2047).

        It has none to hold, but Python's email for one decodes all fields that it does not know before anybody looks at
        them, so that any id may stand in it, and a semicolon.
        """
        return any(b"=?" in one for one in self.starts)


def claims(fields: Fields) -> list[Claim]:
    """All fields of the name."""
    found = []
    for at, field in enumerate(fields.named(NAME.lower()), start=1):
        start, _, results = field.value.partition(b";")
        starts: tuple[bytes, ...] = (start.lower(),)
        if b"(" in start:
            starts += (_uncommented(field.value).partition(b";")[0].lower(),)
        found.append(Claim(at, results, starts))
    return found


@cache
def _spellings(identity: str) -> re.Pattern[bytes]:
    """An authserv-id in lower case, however it is spelled. A site has two."""
    spelled = _LEFT_OUT.join(re.escape(bytes([octet])) for octet in identity.lower().encode("ascii"))
    return re.compile(rb"(?<![a-z0-9.-])" + spelled + rb"(?![a-z0-9-]|\.[a-z0-9])")


def _uncommented(value: bytes) -> bytes:
    """A value without comments, which may hold comments and quoted pairs (RFC 5322 section 3.2.2)."""
    kept, depth = [], 0
    for piece in _PIECE.findall(value):
        if piece == b"(":
            depth += 1
        elif piece == b")" and depth:
            depth -= 1
        elif not depth:
            kept.append(piece)
    return b"".join(kept)


def result(method: str, value: str, properties: Mapping[str, str | None], comment: str = "", reason: str = "") -> str:
    """One result (section 2.2, resinfo). Properties that are None are left out."""
    parts = [f"{method}={value}"]
    if comment:
        parts.append(f"({_BRACKET.sub('', _plain(comment))})")
    if reason and _plain(reason):
        parts.append(f"reason={_value(reason)}")
    parts += [f"{name}={_value(text)}" for name, text in properties.items() if text is not None]
    return " ".join(parts)


def value(identity: str, results: Iterable[str]) -> bytes:
    """The field's value, one result on a line."""
    return b" " + ";\n\t".join([identity, *results]).encode("ascii")


def _value(text: str) -> str:
    return text if _TOKEN.fullmatch(text) else f'"{_plain(text)}"'


def _plain(text: str) -> str:
    """A text as it may stand in quotes, for readers too who know nothing of quoted pairs."""
    return _QUOTE.sub("", _UNPRINTABLE.sub("?", text))
