"""What the commands share: the site's directory, and how data is printed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from mailstack.errors import MailstackError

_KB = 1000

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def here() -> Path:
    """The site's directory."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise MailstackError("the current directory was removed; change into one that exists") from None


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines) + "\n"


def size(octets: int) -> str:
    return f"{octets} B" if octets < 10 * _KB else f"{octets / _KB:.0f} kB"


def json_text(data: Any) -> str:  # noqa: ANN401
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    # A file's name that is not UTF-8 becomes JSON's own escape for it.
    return text.encode(errors="backslashreplace").decode()
