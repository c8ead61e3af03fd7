"""The DKIM keys."""

import os
from pathlib import Path

import click

from mailstack import console
from mailstack.cli.shared import JSON, here, json_text, table
from mailstack.tasks import dkim as task


@click.group()
def dkim() -> None:
    """List the DKIM keys, or take those of another mail server."""


@dkim.command(name="list")
@JSON
def list_(*, as_json: bool) -> None:
    """List the keys in secrets/dkim, and what each is used for."""
    found, warnings = task.keys(here(), os.environ)
    console.warn(*warnings)
    if as_json:
        click.echo(json_text(found), nl=False)
        return
    rows = [["record", "bits", "signs for", "published for"]]
    rows += [
        [
            one["record"],
            str(one["bits"] or ""),
            ", ".join(one["signs_for"]) or "nothing",
            ", ".join(one["published_for"]) or "nothing",
        ]
        for one in found
    ]
    click.echo(table(rows), nl=False)


@dkim.command(name="import")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--domain", metavar="NAME", help="The domain of a key whose file does not say it.")
@click.option("--selector", metavar="NAME", help="The selector of a key whose file does not say it.")
def import_(path: Path, domain: str | None, selector: str | None) -> None:
    """Take DKIM keys that another program made: a file, or a directory as that program has it.

    Knows the files of opendkim-genkey, OpenDKIM's KeyTable, docker-mailserver, bokysan/docker-postfix, Mailu and other
    users of rspamd, and what redis-cli prints of mailcow's keys.
    """
    taken, hints = task.bring(here(), os.environ, path, domain, selector)
    for one in taken:
        how = "imported" if one.new else "was here already"
        console.progress(f"{one.key.name}, {one.key.bits} bits: {how} ({console.printable(str(one.source))})")
    console.warn(*hints)
