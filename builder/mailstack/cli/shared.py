"""What the commands share: the site's directory, and how data is printed."""

import ipaddress
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from mailstack.errors import MailstackError
from mailstack.values import mail

_KB = 1000


def domain_option(context: click.Context, option: click.Parameter, value: str | None) -> str | None:  # noqa: ARG001
    """The value of an option that takes a domain's name, in its A-label form."""
    if value is None:
        return None
    try:
        return mail.domain_name(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} {error}") from None


def _address(context: click.Context, option: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:  # noqa: ARG001
    for one in value:
        try:
            ipaddress.ip_address(one)
        except ValueError:
            raise click.BadParameter(f"{one!r} is no address; write one such as 192.0.2.53") from None
    return value


JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
RESOLVERS = click.option(
    "--resolver",
    "resolvers",
    metavar="ADDRESS",
    multiple=True,
    callback=_address,
    help="A resolver to ask, instead of those in /etc/resolv.conf.",
)
PORT = click.option("--port", default=53, hidden=True, help="The port of all servers, for tests.")


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
