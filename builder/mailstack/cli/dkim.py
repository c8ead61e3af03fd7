"""The DKIM keys."""

import os
from pathlib import Path

import click

from mailstack import compose, console
from mailstack.cli.shared import JSON, PORT, RESOLVERS, domain_option, here, json_text, table
from mailstack.tasks import dkim as task


@click.group()
def dkim() -> None:
    """List the DKIM keys, change the one that signs, or take those of another mail server."""


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


_DOMAIN = click.option(
    "--domain", metavar="NAME", callback=domain_option, help="The key of this domain alone, where each has its own."
)


@dkim.command()
@_DOMAIN
def new(domain: str | None) -> None:
    """Make a spare key, to be published now and to sign later."""
    from mailstack.tasks import rotate as task  # noqa: PLC0415  # other commands need no DNS library

    task.new(task.Rotation(here(), os.environ, say=_say), domain)


@dkim.command()
@_DOMAIN
@click.option("--force", is_flag=True, help="Also if a name server does not have the spare key.")
@click.option("--auto", is_flag=True, help="Do the step that is due, if one is, and nothing else; for cron.")
@click.option(
    "--days",
    type=click.IntRange(1, 3650),
    metavar="DAYS",
    help="With --auto: how long a key signs. Default: 90.",
)
@RESOLVERS
@PORT
def rotate(
    *, domain: str | None, force: bool, auto: bool, days: int | None, resolvers: tuple[str, ...], port: int
) -> None:
    """Let the spare key sign, once all name servers have it; or make one if there is none."""
    from mailstack.tasks import rotate as task  # noqa: PLC0415  # as above

    if auto and (domain or force):
        raise click.UsageError("--auto goes with neither --domain nor --force")
    if days and not auto:
        raise click.UsageError("--days goes with --auto")
    site = task.Rotation(here(), os.environ, say=_say)
    if auto:
        task.auto(site, days or task.DAYS, resolvers=resolvers, port=port)
    else:
        task.rotate(site, domain, force=force, resolvers=resolvers, port=port)


@dkim.command()
@_DOMAIN
@click.option("--force", is_flag=True, help="Also while messages that it signed may be under way.")
def retire(*, domain: str | None, force: bool) -> None:
    """Revoke the key that signed before, and destroy its private half."""
    from mailstack.tasks import rotate as task  # noqa: PLC0415  # as above

    task.retire(task.Rotation(here(), os.environ, say=_say), domain, force=force)


def _say(sentence: str) -> None:
    console.progress(compose.spoken(sentence))
