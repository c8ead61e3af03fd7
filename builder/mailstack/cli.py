"""The command line: one thin command for each verb."""

import os
import sys
import traceback
from pathlib import Path

import click

from mailstack import compose, console, deploy, environment, newcomer, report
from mailstack.dns import formats
from mailstack.dns.records import beside, records
from mailstack.errors import (
    DkimKeyError,
    MailstackError,
    NotWellError,
    SecretError,
    SettingsError,
    StoppedError,
    os_reason,
)
from mailstack.version import version

_JSON = click.option("--json", "as_json", is_flag=True, help="For programs.")


class _Group(click.Group):
    """Reports faults as text with their exit code; --debug shows the traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            try:
                return super().invoke(ctx)
            except (KeyboardInterrupt, click.Abort):
                raise StoppedError from None
            except BrokenPipeError:
                raise  # click's own business
            except OSError as error:
                where = f"{error.filename}: " if error.filename else ""
                raise MailstackError(f"{where}{os_reason(error)}") from error
        except MailstackError as error:
            if ctx.params.get("debug"):
                traceback.print_exception(error)
            console.fail(str(error))
            sys.exit(error.exit_code)


def _here() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise MailstackError("the current directory was removed; change into one that exists") from None


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of a fault.")
@click.version_option(version(), message="mailstack %(version)s")
def main(*, debug: bool) -> None:
    """One env file in, a hardened mail appliance out. Works in the current directory, which holds .env."""


@main.command()
@click.option("--hostname", help="The appliance's own name, such as mail.example.com.")
@click.option("--domains", help="The mail domains, commas between.")
@click.option("--mailboxes", help="The addresses that exist, commas between.")
def init(**flags: str | None) -> None:
    """Write a .env with every setting explained; asks for what no flag says."""
    path = newcomer.write(_here(), flags)
    console.progress(f"{path.name} is written; look through it, then: mailstack build")


@main.command()
@click.option("--refresh", is_flag=True, help="Build all images again, with the newest Debian packages.")
@click.option("--rollback", is_flag=True, help="Put back the compose.yaml of the build before, files and images too.")
@click.option("--next/--no-next", "say_next", default=True, help="Say what comes next; 'make up' does it itself.")
def build(*, refresh: bool, rollback: bool, say_next: bool) -> None:
    """Write compose.yaml and what it mounts, make missing keys and images, and print the DNS records."""
    if rollback and refresh:
        raise click.UsageError("--refresh and --rollback exclude each other")
    if rollback:
        console.warn(*deploy.roll_back(_here()))
        console.progress("compose.yaml is that of the build before. Next: docker compose up -d --wait")
        return
    done = deploy.build(_here(), os.environ, refresh=refresh)
    console.warn(*done.warnings)
    console.progress(f"{len(done.changed)} files written, {len(done.built)} images built")
    console.progress("DNS records to publish (other forms: mailstack dns records --help):")
    click.echo(formats.zone_fragment(records(done.stack)), nl=False)
    console.progress(beside(done.stack))
    if say_next:
        console.progress("Next: docker compose up -d --wait")


@main.command()
@click.option("--replace", is_flag=True, help="Rebuild it although it exists.")
@click.option("--needed", is_flag=True, help="Only ask: exit code 1 if it exists, or a registry has it and answers.")
def base(*, replace: bool, needed: bool) -> None:
    """Make the base image from Debian's packages, where there is no registry to pull it from."""
    if needed:
        sys.exit(0 if deploy.needs_base(_here(), os.environ) else 1)
    console.progress(deploy.make_base(_here(), os.environ, replace=replace))


@main.command()
@_JSON
def status(*, as_json: bool) -> None:
    """Show services, queue, images and keys. Exit code 5 if a service is not well."""
    try:
        data, warnings = deploy.status(_here(), os.environ)
    except (SettingsError, DkimKeyError, SecretError):
        console.warn("the services were not looked at; 'docker compose ps' and 'docker compose logs' show them")
        raise
    console.warn(*warnings)
    click.echo(report.as_json(data) if as_json else report.status_text(data), nl=False)
    if not data["well"]:
        raise NotWellError(f"{data['project']}{report.why_not_well(data)}")


@main.command(name="first-steps")
def first_steps() -> None:
    """Say how to send a first message with this site."""
    click.echo(compose.spoken(report.first_steps(environment.read_settings(_here(), os.environ))), nl=False)


@main.group()
def config() -> None:
    """The settings of this site."""


@config.command(name="show")
@_JSON
def config_show(*, as_json: bool) -> None:
    """Print every setting, its value and where that comes from."""
    chosen = environment.read_settings(_here(), os.environ)
    rows = report.settings_rows(chosen, environment.sources(_here(), os.environ))
    click.echo(report.as_json(rows) if as_json else report.table([list(row.values()) for row in rows]), nl=False)


@config.command(name="check")
def config_check() -> None:
    """Report every fault of settings, overrides and keys; writes nothing and needs no container engine."""
    console.warn(*deploy.check(_here(), os.environ))
    console.progress("settings are valid")


@main.group()
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
    stack, warnings = deploy.load_stack(_here(), os.environ)
    console.warn(*warnings)
    found = records(stack)
    if form == "zone":
        click.echo(formats.zone_fragment(found), nl=False)
    else:
        # Loaded here, since it takes a fifth of what a build may take.
        from mailstack.dns import zones  # noqa: PLC0415

        click.echo(_BY_ZONE[form](found, zones.find({one.domain for one in found})), nl=False)
    console.progress(beside(stack))
