"""The author domain of a message, from a From field that all readers read alike (RFC 9989 section 5.3.1).

From is what a person sees, and programs read it in different ways as soon as it is not well-formed: one takes the first
domain in it, another one the last. So what is taken here is the grammar of RFC 5322 section 3.4 with the liberties that
honest mail takes and no program misreads, and nothing else. test_from_fields.py (tests/integration) asks the programs.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from mailstack_auth import names
from mailstack_auth.header.encoded_words import EncodedWordError, decoded
from mailstack_auth.header.fields import Fields

# For mail that must have an author.
NO_DOMAIN = 'From has no domain; write an address: "Doe, Jane" <jane@domain.example>'


class AmbiguousError(Exception):
    """There is no author domain that all readers agree on. One line of ASCII says why, and what to write."""


# Octets beyond ASCII stand in atoms, strings and comments, as they do in the wild. No alternative begins like another
# one and no repetition is given back, so that matching takes linear time. One that may fail in its midst is an atomic
# group: Python before 3.11.5 goes on from where it failed (https://github.com/python/cpython/issues/106052).
_TEXT = rb"A-Za-z0-9!#$%&'*+/=?^_`{|}~.\x80-\xff-"
_CONTROL = rb"\x00-\x08\x0a-\x1f\x7f"
_ATOM = rb"[" + _TEXT + rb"]++"
_STRING = rb'(?>"(?:[^"\\' + _CONTROL + rb"]|(?>\\[ -~]))*+\")"
# Without what some programs read as an address, or as the end of the comment. Not all follow a third level.
_IN_COMMENT = rb"[^()<>\\" + _CONTROL + rb"]"
_COMMENT = rb"(?>\((?:" + _IN_COMMENT + rb"|(?>\(" + _IN_COMMENT + rb"*+\)))*+\))"
_CFWS = rb"(?:[ \t]|" + _COMMENT + rb")*+"
# Without space and comments in it (obsolete in RFC 5322 section 4.4), where programs stop at different places.
_ADDRESS = rb"(?P<local>" + _ATOM + rb'|"[ ' + _TEXT + rb']++")@(?P<domain>' + _ATOM + rb")"
_BARE = re.compile(rb"(?P<name>" + _CFWS + rb")" + _ADDRESS + rb"(?P<rest>" + _CFWS + rb")")
# A name may hold dots (RFC 5322 section 4.1), brackets, colons, an "@", and a backslash as in DOMAIN\user.
_NAME = (
    rb"(?P<name>(?:["
    + _TEXT
    + rb"@: \t]|(?>\[["
    + _TEXT
    + rb": \t]*+\])|(?>\\(?=[A-Za-z0-9]))|"
    + _STRING
    + rb"|"
    + _COMMENT
    + rb")*+)"
)
_NAMED = re.compile(_NAME + rb"<[ \t]*+" + _ADDRESS + rb"[ \t]*+>(?P<rest>" + _CFWS + rb")")
# Where all programs find the same string: there is one, among plain words; nothing is escaped or folded; dots stand
# between atoms (RFC 5322 section 3.2.3).
_ASCII = rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]++"
_DOT_ATOM = _ASCII + rb"(?>\." + _ASCII + rb")*+"
_WORDS = rb"[A-Za-z0-9'_ \t-]*+"
_PLAIN = re.compile(
    _WORDS + rb'"[^"\\\t]*+"' + _WORDS + rb"<[ \t]*+" + _DOT_ATOM + rb"@" + _DOT_ATOM + rb"[ \t]*+>[ \t]*+"
)
# A name alone, a mailbox without a domain, or a group without members (RFC 6854).
_NOBODY = re.compile(_NAME + rb"(?:(?><[ \t]*+(?:" + _ATOM + rb")?+[ \t]*+>)" + _CFWS + rb"|;" + _CFWS + rb")?+")
_PART = re.compile(
    rb"((?:[^\"(),\\" + _CONTROL + rb"]|(?>\\(?=[A-Za-z0-9]))|" + _STRING + rb"|" + _COMMENT + rb")*+)(,|\Z)"
)
_ADDRESS_AND_COMMENT = re.compile(rb"[ \t]*" + _ADDRESS + rb"\([^()\"\\]*\)[ \t]*")
_STRING_OR_COMMENT = re.compile(rb"(?P<string>" + _STRING + rb")|(?P<comment>" + _COMMENT + rb")")
# The same, and a string without an end, lest it is looked for behind each quotation mark in it.
_INSIDE = re.compile(_STRING_OR_COMMENT.pattern + rb'|(?P<open>"(?:[^"\\]|(?>\\.))*+\\?)', re.DOTALL)
_CFWS_ALONE = re.compile(_CFWS)
_FOLD = re.compile(rb"\r?\n(?=[ \t])")
# Also those of Unicode that become one when a text is normalised (NFKC).
_AT = re.compile("@|\ufe6b|\uff20".encode())


def author_domain(fields: Fields) -> str | None:
    """The one domain of the message's authors, in lower case and as A-labels; None if From names no domain.

    Raises AmbiguousError.
    """
    return _read(fields).domain


def as_in_dns(fields: Fields) -> bool:
    """Whether the authors' domain is written in A-labels, in any case, without a final dot. Raises AmbiguousError."""
    return _read(fields).as_in_dns


class _Authors(NamedTuple):
    domain: str | None
    as_in_dns: bool = True
    several: bool = False


def _read(fields: Fields) -> _Authors:
    # A space before the colon was allowed once (RFC 822 section 3.4.2), and is read by some.
    found = fields.named(b"from")
    if not found:
        raise AmbiguousError("the message has no From field")
    if len(found) > 1:
        raise AmbiguousError("the message has more than one From field")
    if found[0].name.strip() != found[0].name:
        raise AmbiguousError("the From field has a space before its colon; remove it")
    value = found[0].value
    authors = _remembered(value) if len(value) <= _MAX_REMEMBERED else _authors(value)
    if authors.several and len(fields.named(b"sender")) != 1:
        raise AmbiguousError("From has several authors: add a Sender field with one address (RFC 5322 section 3.6.2)")
    return authors


# Enough for an address, its name and some space.
_MAX_REMEMBERED = 400


@lru_cache(1024)
def _remembered(value: bytes) -> _Authors:
    return _authors(value)


def _authors(value: bytes) -> _Authors:
    value = _FOLD.sub(b"\t", value)
    shown = _decoded(value)
    if not _AT.search(value) and not _AT.search(shown) and _NOBODY.fullmatch(value):
        return _Authors(None)
    parts = _parts(value)
    plain = shown == value and _PLAIN.fullmatch(value) is not None
    if len(parts) > 1 and re.search(rb"[\[\]:\\]", value):
        raise AmbiguousError("From has several authors and brackets, colons or backslashes; remove those")
    written = [_author(one, value, plain=plain) for one in parts]
    domain, *others = {_domain(one) for one in written}
    if others:
        raise AmbiguousError("From has authors of different domains; use authors of one domain")
    as_in_dns = all(one.lower() == str(domain).encode() for one in written)
    return _Authors(domain, as_in_dns, len(written) > 1)


def _parts(value: bytes) -> list[bytes]:
    """What stands between commas outside of strings and comments."""
    parts, at, comma = [], 0, b","
    while comma:
        match = _PART.match(value, at)
        if match is None:
            raise AmbiguousError(_fault(value))
        part, comma = match.groups()
        parts.append(part)
        at = match.end()
    return parts


def _author(part: bytes, value: bytes, *, plain: bool) -> bytes:
    """The domain of one mailbox as it is written. A plain field is one in which all programs find the same strings."""
    bare = _BARE.fullmatch(part)
    match = bare or _NAMED.fullmatch(part)
    if match is None:
        raise AmbiguousError(_fault(value))
    domain = _domain(match["domain"])
    if domain is None:
        raise AmbiguousError("the address in From has no valid domain; write one as in jane@example.com")
    if b"=?" in match["local"]:
        raise AmbiguousError("the address in From has an encoded word; write it without one (RFC 2047 section 5)")
    if not match["local"].decode("utf-8", "replace").isprintable():
        raise AmbiguousError("the address in From has a space or an invisible Unicode character; remove it")
    if match["local"].startswith(b'"') and b"(" in part:
        raise AmbiguousError("From has a comment next to an address with quotes; remove the comment")
    if bare and b'"' in match["name"] + match["rest"]:
        raise AmbiguousError("From has a quotation mark in a comment next to the address; remove it")
    # Where it is not alone, some programs take a part of it for the domain's end.
    if bare and bare["rest"].startswith(b"(") and not _ADDRESS_AND_COMMENT.fullmatch(value):
        raise AmbiguousError("From has a comment directly after the address; write a space before it")
    if not plain:
        _check_name(match["name"], match["rest"], domain)
    return match["domain"]


def _check_name(name: bytes, rest: bytes, domain: str) -> None:
    """See that no program takes anything beside the address for one of another domain."""
    # Some programs take an address that stands in the name. A whole one of the same domain is common there.
    text = _STRING_OR_COMMENT.sub(lambda one: one["string"] or b" ", name)
    if b"@" in text and (re.search(rb"[\[\]:\\]", text) or not _ends_with_address(text, domain)):
        raise AmbiguousError(f'From has an "@" in the name; remove it, or {_QUOTES}')
    comments = [one["comment"] or b"" for part in (name, rest) for one in _STRING_OR_COMMENT.finditer(part)]
    if any(b"@" in one and not _ends_with_address(one, domain) for one in comments):
        raise AmbiguousError('From has an "@" in a comment; remove it')
    # And some decode before they look for quotes and comments.
    shown = _decoded(name)
    if shown != name and b"@" in shown and not (name.count(b"=?") == 1 and _ends_with_address(shown, domain)):
        raise AmbiguousError('the name in From has an encoded "@"; remove it')
    if rest.strip() and re.search(rb"=\?|\\", name):
        raise AmbiguousError("From has a comment after a name with an encoded word or a backslash; remove it")
    if not _CFWS_ALONE.fullmatch(_decoded(rest)):
        raise AmbiguousError("a comment in From has encoded parentheses or backslashes; remove them")


def _ends_with_address(text: bytes, domain: str) -> bool:
    """Whether there is one "@" in the text, and the domain after it."""
    _, _, after = text.partition(b"@")
    return _domain(after.strip(b" \t\"'()>")) == domain


def _decoded(octets: bytes) -> bytes:
    try:
        return decoded(octets)
    except EncodedWordError as error:
        raise AmbiguousError(f"an encoded word in From {error}; write the name in UTF-8 (RFC 2047)") from None


def _domain(octets: bytes) -> str | None:
    """Some write the name with the final dot that it has in DNS."""
    try:
        return names.domain(octets.decode("utf-8").removesuffix("."))
    except UnicodeDecodeError:
        return None


_EXAMPLE = '"Doe, Jane" <jane@domain.example>'
_QUOTES = f"write the name in quotes: {_EXAMPLE}"
# What is wrong with octets that stand outside of strings and comments.
_FAULTS = {
    b'"': f"an unclosed quotation mark; write {_EXAMPLE}",
    b"(": f"an unclosed or too deeply nested parenthesis; {_QUOTES}",
    b")": f"a closing parenthesis without an opening one; {_QUOTES}",
    b"\\": f"a backslash outside of quotes; {_QUOTES}",
    b",": f"a comma outside of quotes; {_QUOTES}",
    b";": f"a semicolon outside of quotes; {_QUOTES}",
}


def _fault(value: bytes) -> str:
    """Why a field is not a plain address: the first reason that is found."""
    control = re.search(rb"[" + _CONTROL + rb"]", value)
    if control:
        return f"From has the control character 0x{ord(control[0]):02X}; remove it"
    outside = _INSIDE.sub(lambda one: b'"' if one["open"] else b"", value)
    opened, closed = outside.count(b"<"), outside.count(b">")
    reasons = [
        *((octet in outside, f"From has {fault}") for octet, fault in _FAULTS.items()),
        (not _AT.search(value), f"From has no address; write {_EXAMPLE}"),
        (outside.count(b"[") != outside.count(b"]"), f"From has an unmatched square bracket; {_QUOTES}"),
        (opened != closed or opened > 1, f'From has an extra "<" or ">"; {_QUOTES}'),
        (closed and outside.rpartition(b">")[2].strip(), f'From has text after the ">"; write {_EXAMPLE}'),
        (True, f"From is not a name and one address (RFC 5322 section 3.4); write {_EXAMPLE}"),
    ]
    return next(reason for applies, reason in reasons if applies)
