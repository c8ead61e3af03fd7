"""Lists, numbers, sizes and truth as people write them."""

import posixpath
import re
from collections.abc import Callable
from typing import TypeVar

from pydantic import ByteSize, TypeAdapter, ValidationError

from mailstack.errors import shown

_T = TypeVar("_T")
_BYTES = TypeAdapter(ByteSize)
_TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_SEPARATORS = re.compile(r"[\s,]+")


def split_list(value: str) -> list[str]:
    """Split a list as people write it: tokens between commas, white space or both; empty ones do not count."""
    return [token for token in _SEPARATORS.split(value) if token]


def split_commas(value: str) -> list[str]:
    """Split a list whose tokens hold blanks: tokens between commas or line ends."""
    return [token.strip() for token in re.split(r"[,\n]", value) if token.strip()]


def split_lines(value: str) -> list[str]:
    """Split a list whose tokens hold anything: a token on each line; lines that begin with "#" do not count."""
    return [line for one in value.splitlines() if (line := one.strip()) and not line.startswith("#")]


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
            raise ValueError("is not a size; write bytes, or a number with kB, MB, KiB or MiB, as in 25MiB") from None
        if size < least:
            raise ValueError(f"is too small; {least // 1024}KiB is the least that a server must accept (RFC 5321)")
        if size > most:
            raise ValueError(f"is too large; write {most // 1024**3}GiB or less")
        return size

    return parse


def directory(token: object) -> object:
    """A directory of the host, absolute or below the site's own, as compose.yaml can name it."""
    if not isinstance(token, str):
        return token
    if not re.fullmatch(r"[A-Za-z0-9_./@+ -]+", token):
        raise ValueError("has characters other than letters, digits, blanks and . _ / @ + -; write a path like tls")
    path = posixpath.normpath(token)
    if path in {"/", "//"} or not path.strip("./"):
        raise ValueError("is no directory of its own; write one that holds certificates only, for example tls")
    return path


def nested(parser: Callable[[str], _T], part: str) -> _T:
    """Parse a part of a token; the part is named in the message, since the caller only names the whole."""
    try:
        return parser(part)
    except ValueError as error:
        # A part of a part says its own name.
        named = str(error).startswith(("'", '"'))
        raise ValueError(str(error) if named else f"{shown(part)} {error}") from None
