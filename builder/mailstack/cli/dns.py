"""The DNS records of a site."""

import os

import click

from mailstack import console
from mailstack.cli.shared import here
from mailstack.dns import formats
from mailstack.dns.records import beside, records
from mailstack.tasks.load import load_stack


@click.group()
def dns() -> None:
    """The DNS records of this site."""


_BY_ZONE = {"values": formats.one_line_values, "json": formats.as_json}


@dns.command(name="records")
@click.option(
    "--format",
    "form",
    type=click.Choice(["zone", *_BY_ZONE]),
    default="zone",
    show_default=True,
    help="zone: lines for a zone file; values: one line each, for web forms; json: for programs.",
)
def dns_records(*, form: str) -> None:
    """Print the records to publish: addresses, MX, SPF, DKIM, DMARC."""
    stack, warnings = load_stack(here(), os.environ)
    console.warn(*warnings)
    found = records(stack)
    if form == "zone":
        click.echo(formats.zone_fragment(found), nl=False)
    else:
        # Loaded here, since it takes a fifth of what a build may take.
        from mailstack.dns import zones  # noqa: PLC0415

        click.echo(_BY_ZONE[form](found, zones.find({one.domain for one in found})), nl=False)
    console.progress(beside(stack))
