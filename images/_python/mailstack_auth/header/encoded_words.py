"""Encoded words (RFC 2047) as the most generous of readers decode them: wherever they stand, however they are made."""

import binascii
import re
from encodings.aliases import aliases
from functools import lru_cache

# Also with blanks and question marks in its text, which only some programs take.
_WORD = re.compile(rb"=\?([^?]*+)\?([bBqQ])\?(.*?)\?=", re.DOTALL)
# What Python takes for a word up to the end of the field: its text begins with an escape, and nothing ends it.
_OPEN = re.compile(rb"=\?[^?]*+\?[bBqQ]\?=[0-9A-Fa-f]{2}\Z")
_BETWEEN = re.compile(rb"\?=[ \t]++(?==\?)")
_HEX = re.compile(rb"=([0-9A-Fa-f]{2})")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]*+=*+")
_PRINTABLE = bytes(range(0x20, 0x7F))
# Names of character sets that Python does not know and others may, in which ASCII is not itself.
_NOT_ASCII = re.compile(r"utf|ucs|unicode|10646|ebcdic|ibm|cp\d")
_MAX_NAME = 40


class EncodedWordError(ValueError):
    """Programs decode a word to different texts; the text says why."""


def decoded(octets: bytes) -> bytes:
    """A field's value with all encoded words decoded, in UTF-8. Raises EncodedWordError. Takes linear time."""
    # After the last end of a word none begins: that is not looked for from each beginning.
    end = octets.rfind(b"?=") + 2
    if _OPEN.search(octets[: end + 2]):
        raise EncodedWordError("has no end")
    return _WORD.sub(_text, _BETWEEN.sub(b"?=", octets[:end])) + octets[end:] if b"=?" in octets[:end] else octets


def _text(word: re.Match[bytes]) -> bytes:
    # Its language may follow the character set (RFC 2231 section 5).
    charset = _codec(word[1].partition(b"*")[0][:_MAX_NAME].lower())
    if word[2] in b"qQ":
        octets = _HEX.sub(lambda one: bytes([int(one[1], 16)]), word[3].replace(b"_", b" "))
    elif _BASE64.fullmatch(word[3]):
        data = word[3].rstrip(b"=")
        # Where it was cut off, one digit may be left over.
        octets = binascii.a2b_base64(data[: len(data) - (len(data) % 4 == 1)] + b"==")
    else:
        raise EncodedWordError("is not valid base64")
    return octets.decode(charset, "replace").encode("utf-8", "replace")


@lru_cache(256)
def _codec(name: bytes) -> str:
    """Python's codec for a character set; Latin-1 for one that nobody knows."""
    text = name.decode("latin-1")
    known = text.replace("-", "_")
    known = aliases.get(known, known)
    # No others are asked for: Python would remember each unknown name for ever.
    if known not in aliases.values():
        if _NOT_ASCII.search(text):
            raise EncodedWordError("uses a character set that not all programs support")
        return "latin-1"
    try:
        if _PRINTABLE.decode(known) == _PRINTABLE.decode("ascii"):
            return known
    except (LookupError, UnicodeError):
        pass
    raise EncodedWordError("uses a character set that is not a superset of ASCII")
