"""Backups, and what is in them."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from mailstack import console
from mailstack.cli.shared import JSON, here, json_text, size, table
from mailstack.console import printable
from mailstack.errors import MailstackError, StoppedError
from mailstack.tasks import backup as task
from mailstack.tasks import restore as restoring
from mailstack.tasks.archive import Contents, Item

_FILE = click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
_CARE = "It has private keys, passwords and mail: keep it where only you can read it"


@click.command()
@click.option("--list", "as_list", is_flag=True, help="Check a backup, and show what is in it.")
@click.option("--replace", is_flag=True, help="Replace FILE if it exists.")
@JSON
@_FILE
def backup(file: Path, *, as_list: bool, replace: bool, as_json: bool) -> None:
    """Write settings, secrets, certificates, queue and mail to FILE while the stack runs.

    FILE is a tar, compressed if its name ends in .gz or .tgz. "-" is stdout.
    """
    if as_list:
        found = restoring.contents(file)
        click.echo(json_text(found.data()) if as_json else contents_text(found), nl=False)
        return
    if as_json:
        raise click.UsageError("--json is for --list")
    if str(file) == "-" and sys.stdout.isatty():
        raise click.UsageError("a backup is no text for a terminal; send it to a file or a command")
    with _tidied():
        if str(file) != "-":
            found = task.backup(here(), os.environ, file, replace=replace)
        else:
            found = task.write(here(), os.environ, sys.stdout.buffer)
            sys.stdout.flush()
    console.progress(contents_text(found).rstrip())
    console.progress(f"{'backup' if str(file) == '-' else file} written. {_CARE}")


@click.command()
@_FILE
def restore(file: Path) -> None:
    """Restore a backup into this directory, which must have no site, and into new volumes."""
    if str(file) == "-":
        raise MailstackError("a backup is checked as a whole before anything is written; write it to a file first")
    with _tidied():
        found = restoring.restore(here(), file)
    console.progress(contents_text(found).rstrip())
    console.progress("restored. Next: mailstack build && docker compose up -d --wait")


@contextlib.contextmanager
def _tidied() -> Iterator[None]:
    """Let "kill" and a connection that is lost end the command as Ctrl-C does, so that it leaves nothing half-made."""

    def end(*_: object) -> None:
        raise StoppedError

    # What nohup(1) ignores stays so.
    signals = [one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) is signal.SIG_DFL]
    for one in signals:
        signal.signal(one, end)
    try:
        yield
    finally:
        for one in signals:
            signal.signal(one, signal.SIG_DFL)


def contents_text(found: Contents) -> str:
    """What is in a backup, for people."""
    about = found.about
    rows = [
        ["what", "how much", "size"],
        *([printable(one.name), _how_much(one), size(one.octets)] for one in found.items.values()),
    ]
    lines = [
        f"{about.project}, {printable(about.made)}, by mailstack {printable(about.version)}",
        "",
        table(rows).rstrip(),
    ]
    if about.left_out:
        lines += ["", "not in it:", *(f"  {printable(one)}" for one in about.left_out)]
    return "\n".join(lines) + "\n"


def _how_much(item: Item) -> str:
    if item.messages is None:
        return f"{item.files} file{'' if item.files == 1 else 's'}"
    places = ", ".join(f"{number} {place}" for place, number in sorted(item.places.items()))
    return f"{item.messages} message{'' if item.messages == 1 else 's'}{f' ({places})' if places else ''}"
