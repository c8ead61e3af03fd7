"""The command line: one thin command for each verb."""

import os
import sys
from pathlib import Path

import click

from mailstack import __version__, console, deploy
from mailstack.dns import formats
from mailstack.dns.records import records
from mailstack.errors import MailstackError


class _Group(click.Group):
    """Reports faults as text with their exit code; --debug shows the traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except MailstackError as error:
            if ctx.params.get("debug"):
                raise
            console.fail(str(error))
            sys.exit(error.exit_code)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of a fault.")
@click.version_option(__version__, message="mailstack %(version)s")
def main(*, debug: bool) -> None:
    """One env file in, a hardened mail appliance out. Works in the current directory, which holds .env."""


@main.command()
@click.option("--refresh", is_flag=True, help="Build all images anew, with the newest Debian packages.")
def build(*, refresh: bool) -> None:
    """Write compose.yaml and what it mounts, make missing keys and images, and print the DNS records."""
    done = deploy.build(Path.cwd(), os.environ, refresh=refresh)
    for warning in done.warnings:
        console.warn(warning)
    console.progress(f"{len(done.changed)} files written, {len(done.built)} images built")
    console.progress("DNS records to publish (other forms: mailstack dns records --help):")
    click.echo(formats.zone_fragment(records(done.stack)), nl=False)
    console.progress("Next: docker compose up --wait")


@main.group()
def dns() -> None:
    """The DNS records of this site."""


_FORMATS = {"zone": formats.zone_fragment, "values": formats.one_line_values, "json": formats.as_json}


@dns.command(name="records")
@click.option(
    "--format",
    "form",
    type=click.Choice(list(_FORMATS)),
    default="zone",
    show_default=True,
    help="zone: lines for a zone file; values: one line each, for web forms; json: for programs.",
)
def dns_records(*, form: str) -> None:
    """Print the records to publish: addresses, MX, SPF, DKIM, DMARC."""
    stack, warnings = deploy.load_stack(Path.cwd(), os.environ)
    for warning in warnings:
        console.warn(warning)
    click.echo(_FORMATS[form](records(stack)), nl=False)
