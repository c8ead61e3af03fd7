"""From nothing to a site that was built."""

import os
import sys

import click

from mailstack import console
from mailstack.cli.shared import here
from mailstack.dns import formats
from mailstack.dns.records import beside, records
from mailstack.tasks import build as task
from mailstack.tasks.base import make_base, needs_base
from mailstack.tasks.init import write


@click.command()
@click.option("--hostname", help="The mail server's own name, for example mail.example.com.")
@click.option("--domains", help="The mail domains, separated by commas.")
@click.option("--mailboxes", help="The addresses that exist, separated by commas.")
def init(**flags: str | None) -> None:
    """Write a .env that explains every setting. Asks for values that no option gives."""
    path = write(here(), flags)
    console.progress(f"{path.name} written; check it, then run: mailstack build")


@click.command()
@click.option("--refresh", is_flag=True, help="Build all images again, with the newest Debian packages.")
@click.option("--rollback", is_flag=True, help="Restore compose.yaml of the previous build, with its files and images.")
@click.option(
    "--next/--no-next", "say_next", default=True, help="Whether to print the next command. 'make up' runs it itself."
)
def build(*, refresh: bool, rollback: bool, say_next: bool) -> None:
    """Write compose.yaml and the files that it mounts, make missing keys and images, and print the DNS records."""
    if rollback and refresh:
        raise click.UsageError("--refresh and --rollback cannot be used together")
    if rollback:
        console.warn(*task.roll_back(here()))
        console.progress("compose.yaml restored from the previous build. Next: docker compose up -d --wait")
        return
    done = task.build(here(), os.environ, refresh=refresh)
    console.warn(*done.warnings)
    console.progress(f"{len(done.changed)} files written, {len(done.built)} images built")
    console.progress("DNS records to publish (other forms: mailstack dns records --help):")
    click.echo(formats.zone_fragment(formats.placed(records(done.stack), None)), nl=False)
    click.echo(formats.comments(beside(done.stack)), nl=False)
    if say_next:
        orphans = " --remove-orphans" if done.unneeded else ""
        console.progress(f"Next: docker compose up -d --wait{orphans}")


@click.command()
@click.option("--replace", is_flag=True, help="Rebuild the image even if it exists.")
@click.option("--needed", is_flag=True, help="Make nothing: exit code 1 if the image exists or can be pulled, else 0.")
def base(*, replace: bool, needed: bool) -> None:
    """Make the base image from Debian's packages, for a host that cannot pull it from a registry."""
    if needed:
        sys.exit(0 if needs_base(here(), os.environ) else 1)
    console.progress(make_base(here(), os.environ, replace=replace))
