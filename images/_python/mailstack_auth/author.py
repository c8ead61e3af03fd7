"""The author domain of a message, from a From field that all readers read alike (RFC 9989 section 5.3.1).

From is what a person sees, and programs read it in different ways as soon as it is not well-formed: what one judges by
the first domain in it, another shows with the second. So what is taken here is the grammar of RFC 5322 section 3.4 for
one address, with the liberties that honest mail takes and no program misreads, and nothing else.
"""

import re
from functools import lru_cache

from mailstack_auth import names
from mailstack_auth.milter import Fields


class AmbiguousError(Exception):
    """There is no author domain that all readers agree on. The text says why, for the sender's postmaster."""


# Octets beyond ASCII stand in atoms, strings and comments, as they do in the wild. No alternative begins like another
# one and no repetition is given back, so that matching takes linear time.
_TEXT = rb"A-Za-z0-9!#$%&'*+/=?^_`{|}~.\x80-\xff-"
_ATOM = rb"[" + _TEXT + rb"]++"
_STRING = rb'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[ -~])*+"'
# Without what some programs would read as an address, or as the end of the comment.
_COMMENT = rb"\([^()<>\\\x00-\x08\x0a-\x1f\x7f]*+\)"
_CFWS = rb"(?:[ \t]|" + _COMMENT + rb")*+"
# Without space and comments in it (obsolete in RFC 5322 section 4.4), where programs stop at different places.
_ADDRESS = rb"(?P<local>" + _ATOM + rb"|" + _STRING + rb")@(?P<domain>" + _ATOM + rb")"
_BARE = re.compile(_CFWS + _ADDRESS + _CFWS)
# A name may hold dots and brackets (RFC 5322 section 4.1 has the dots), and an "@".
_NAMED = re.compile(
    rb"(?P<name>(?:[" + _TEXT + rb"@\[\] \t]|" + _STRING + rb"|" + _COMMENT + rb")*+)"
    rb"<[ \t]*+" + _ADDRESS + rb"[ \t]*+>" + _CFWS
)
_PIECE = re.compile(rb"(?P<string>" + _STRING + rb")|(?P<comment>" + _COMMENT + rb")|[^\"(]++")
_AFTER_AT = re.compile(rb"@([" + _TEXT + rb"]*)")
_FOLD = re.compile(rb"\r?\n(?=[ \t])")


def author_domain(fields: Fields) -> str:
    """The domain of the message's one author, in lower case and as A-labels. Raises AmbiguousError."""
    # A space before the colon was allowed once (RFC 822 section 3.4.2), and is read by some.
    found = fields.named(b"from")
    if not found:
        raise AmbiguousError("there is no From field")
    if len(found) > 1:
        raise AmbiguousError("there is more than one From field")
    if found[0].name.strip() != found[0].name:
        raise AmbiguousError("there is a space in the name of the From field")
    value = found[0].value
    return _remembered(value) if len(value) <= _MAX_REMEMBERED else _author(value)


# Enough for an address, its name and some space.
_MAX_REMEMBERED = 400


@lru_cache(1024)
def _remembered(value: bytes) -> str:
    return _author(value)


def _author(value: bytes) -> str:
    value = _FOLD.sub(b"\t", value)
    match = _BARE.fullmatch(value) or _NAMED.fullmatch(value)
    if match is None:
        raise AmbiguousError("From is not one plain address (RFC 5322 section 3.4)")
    domain = _domain(match["domain"])
    if domain is None:
        raise AmbiguousError("the address in From has no valid domain")
    if b"=?" in match["local"]:
        raise AmbiguousError("the address in From holds an encoded word (RFC 2047 section 5)")
    pieces = [*_PIECE.finditer(value[: match.start("local")]), *_PIECE.finditer(value[match.end("domain") :])]
    text = b" ".join(one[0] for one in pieces if one.lastgroup is None)
    comments = b" ".join(one[0] for one in pieces if one.lastgroup == "comment")
    strings = [one[0] for one in pieces if one.lastgroup == "string"]
    # Not a phrase: some programs look for an address in it, and decode before they look.
    if b"=?" in text and re.search(rb"[@\[\]]", text):
        raise AmbiguousError("the name in From is not plain and holds an encoded word (RFC 2047 section 5)")
    # A whole address as an unquoted name before the same address is common, and some programs take that one.
    # So is an address in a comment, before or behind. A quoted local part with an "@" is not.
    after_at = _AFTER_AT.findall(_closed_up(text))
    # Some programs take a string before a square bracket for an address; others end a string at its fold.
    open_to_some = strings if re.search(rb"[\[\]]", text) else [one for one in strings if b"\t" in one]
    for one in (comments, match["local"], *open_to_some):
        after_at += [domain for domain in _AFTER_AT.findall(one) if domain]
    if any(_domain(one) != domain for one in after_at):
        raise AmbiguousError("From holds a second address, of another domain")
    return domain


def _closed_up(text: bytes) -> bytes:
    """Without the space around "@" and dots, over which some programs read on (RFC 5322 section 4.4, obs-domain)."""
    text = b" ".join(text.split())
    for octet in (b"@", b"."):
        text = text.replace(b" " + octet, octet).replace(octet + b" ", octet)
    return text


def _domain(octets: bytes) -> str | None:
    try:
        return names.domain(octets.decode("utf-8"))
    except UnicodeDecodeError:
        return None
