"""What web forms, editors and copying do to any TXT value."""

import re
from collections.abc import Iterator, Sequence
from itertools import permutations

from mailstack.dns.mistakes.mistake import Mistake

# RFC 1035 section 3.3.14.
MAX_STRING = 255
_ZONE_LINE = re.compile(r"(?:^|\s)(?:IN\s+)?TXT\s", re.IGNORECASE)
_QUOTES = '"“”„‟″'
# A value that was cut into more records than this was hardly cut.
_MAX_PARTS = 5


def mangled(published: str, wanted: str, *, right: bool) -> Mistake | None:
    """What happened to a value on its way into DNS, if that has a name; a right one is only another spelling."""
    if right:
        return None
    return next((Mistake("fault", code, what, wanted) for code, what in _manglings(published, wanted)), None)


def _manglings(published: str, wanted: str) -> Iterator[tuple[str, str]]:
    if _ZONE_LINE.search(published):
        yield "zone-line", "the value holds a whole line of a zone file; only what stands in its quotes is the value"
    if "\\" in published:
        yield "backslashes", "the value holds backslashes; they belong into some zone files, never into the data"
    if any(one in published for one in "()"):
        yield "brackets", "the value holds brackets; they join lines in a zone file and are no part of the data"
    if any(one in published for one in _QUOTES):
        yield "quotes", "the value holds quotation marks; they delimit strings in a zone file and are no part of it"
    if not published.isascii():
        yield "not-ascii", "the value holds characters that are not ASCII, such as typographic marks or odd spaces"
    if published[:1].isspace() and published.strip() and _squeezed(published.strip()) == _squeezed(wanted):
        yield "leading-space", "the value begins with a space"


def cut(published: str, wanted: str) -> Mistake | None:
    """Whether the end of a value is missing."""
    squeezed, whole = _squeezed(published), _squeezed(wanted)
    if ";" in wanted and squeezed.removesuffix(";") == wanted.partition(";")[0]:
        return Mistake("fault", "cut-at-semicolon", "the value is cut at its first semicolon", wanted)
    if not squeezed or squeezed == whole or not whole.startswith(squeezed):
        return None
    if len(published) == MAX_STRING:
        what = f"the value is cut after {MAX_STRING} characters; it has {len(wanted)}, in several strings of one record"
        return Mistake("fault", "cut-after-255", what, wanted)
    return Mistake("fault", "cut", f"the value is cut after {len(published)} of {len(wanted)} characters", wanted)


def parted(published: Sequence[str], wanted: str) -> Mistake | None:
    """Whether several records hold parts of one value: its strings were published as records of their own."""
    if not 1 < len(published) <= _MAX_PARTS:
        return None
    whole = _squeezed(wanted)
    if not any("".join(map(_squeezed, order)) == whole for order in permutations(published)):
        return None
    return Mistake(
        "fault",
        "parted",
        f"one value is cut into {len(published)} records; it is one record of several strings",
        wanted,
    )


def unescaped(text: str) -> str:
    """A value without the marks of a zone file."""
    text = _ZONE_LINE.split(text)[-1]
    return re.sub(rf'"\s+"|[\\(){_QUOTES}]', "", text).strip()


def _squeezed(text: str) -> str:
    return "".join(text.split())
