"""The DNS records of a site."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from mailstack import console
from mailstack.cli.shared import JSON, PORT, RESOLVERS, domain_option, here, json_text
from mailstack.dns import formats
from mailstack.dns.records import beside, records
from mailstack.errors import MailstackError, RecordFaultError, RecordWarningError
from mailstack.tasks.load import load_stack
from mailstack.values import mail

if TYPE_CHECKING:
    from mailstack.dns.findings import Report


@click.group()
def dns() -> None:
    """Print the DNS records to publish, or check those that are published."""


_FORMS = {
    "zone": formats.zone_fragment,
    "values": formats.one_line_values,
    "json": formats.as_json,
    "octodns": formats.as_octodns,
    "csv": formats.as_csv,
}


def _domains(context: click.Context, option: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(str(domain_option(context, option, one)) for one in value)


def _selectors(context: click.Context, option: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:  # noqa: ARG001
    try:
        return tuple(map(mail.selector, value))
    except ValueError as error:
        raise click.BadParameter(f"{', '.join(value)} {error}") from None


@dns.command(name="records")
@click.option(
    "--format",
    "form",
    type=click.Choice([*_FORMS]),
    default="zone",
    show_default=True,
    help="zone: lines for a zone file; values: one line each, for web forms; json and csv: for programs; octodns: "
    "octoDNS's YAML, a document for each zone.",
)
@click.option("--zone", metavar="NAME", callback=domain_option, help="Print the records of this zone only.")
@click.option(
    "--ttl",
    metavar="SECONDS",
    type=click.IntRange(0, formats.MAX_TTL),
    default=formats.TTL,
    show_default=True,
    help="How long others may keep the records.",
)
def dns_records(*, form: str, zone: str | None, ttl: int) -> None:
    """Print the records to publish: addresses, MX, SPF, DKIM, DMARC."""
    stack, warnings = load_stack(here(), os.environ)
    console.warn(*warnings)
    found = records(stack)
    known: dict[str, str] | None = None
    # The names of zone lines are whole.
    if zone or form != "zone":
        # Loaded here, since it takes a fifth of what a build may take.
        from mailstack.dns import zones  # noqa: PLC0415

        known = zones.find({one.domain for one in found})
    rows = formats.placed(found, known)
    if zone:
        rows = _of_zone(rows, zone)
    click.echo(_FORMS[form](rows, ttl), nl=False)
    if form == "zone":
        click.echo(formats.comments(beside(stack)), nl=False)
    else:
        console.progress("\n".join(("Also needed:", *beside(stack))))


def _of_zone(rows: Sequence[formats.Placed], zone: str) -> tuple[formats.Placed, ...]:
    found = tuple(one for one in rows if one.zone == zone)
    if not found:
        there = ", ".join(dict.fromkeys(one.zone for one in rows))
        raise MailstackError(f"no record of this site lies in the zone {zone}; its zones are: {there}")
    return found


@dns.command(name="check")
@click.option(
    "--domain", metavar="NAME", callback=domain_option, help="Check any domain, without settings of your own."
)
@click.option(
    "--selector",
    "selectors",
    metavar="NAME",
    multiple=True,
    callback=_selectors,
    help="With --domain: also check the DKIM key at this selector.",
)
@RESOLVERS
@click.option(
    "--blocklist",
    "blocklists",
    metavar="ZONE",
    multiple=True,
    callback=_domains,
    help="Ask this DNS block list about this host's addresses.",
)
@click.option("--no-smtp", is_flag=True, help="Do not look who answers at port 25 of this host's addresses.")
@PORT
@click.option(
    "--watch", "minutes", metavar="MINUTES", type=click.FloatRange(0), help="Check again until all is right, so long."
)
@click.option("--strict", is_flag=True, help="Exit with code 7 if there are warnings.")
@click.option("--quiet", is_flag=True, help="Leave out the records that are right.")
@click.option("--nagios", is_flag=True, help="Print one line, and exit with 0, 1, 2 or 3 as monitoring plugins do.")
@JSON
def dns_check(
    *,
    domain: str | None,
    selectors: tuple[str, ...],
    resolvers: tuple[str, ...],
    blocklists: tuple[str, ...],
    no_smtp: bool,
    port: int,
    minutes: float | None,
    strict: bool,
    quiet: bool,
    nagios: bool,
    as_json: bool,
) -> None:
    """Compare the records to publish with what every name server and a resolver have.

    Takes 10 seconds at most. Exit code 6 if a record is wrong.
    """
    # Loaded here, since it takes a fifth of what a build may take.
    from mailstack.dns import findings  # noqa: PLC0415

    if selectors and domain is None:
        raise click.UsageError("--selector is for --domain; without that, the selectors of the settings are checked")
    if blocklists and domain is not None:
        raise click.UsageError("--blocklist is about this host's addresses; leave out --domain")
    try:
        check = _check(domain, selectors, resolvers, blocklists, port, smtp_too=not no_smtp)
        report = check() if minutes is None else _watched(check, minutes)
    except MailstackError as error:
        if nagios:
            click.echo(f"DNS UNKNOWN - {error}".splitlines()[0])
            sys.exit(findings.NAGIOS_UNKNOWN)
        raise
    if nagios:
        code, line = findings.as_nagios(report)
        click.echo(line, nl=False)
        sys.exit(code)
    if as_json:
        click.echo(json_text(findings.as_data(report)), nl=False)
    else:
        # https://no-color.org; without it click looks whether this is a terminal.
        plain = False if os.environ.get("NO_COLOR") else None
        click.echo(findings.as_text(report, quiet=quiet), nl=False, color=plain)
    if report.worst == "fault":
        raise RecordFaultError("the published records have faults")
    if report.worst == "warning" and strict:
        raise RecordWarningError("the published records have warnings")


def _check(
    domain: str | None,
    selectors: tuple[str, ...],
    resolvers: tuple[str, ...],
    blocklists: tuple[str, ...],
    port: int,
    *,
    smtp_too: bool,
) -> "Callable[[], Report]":
    """What is to be checked, once or again."""
    from mailstack.tasks import dns_check as task  # noqa: PLC0415

    if domain is not None:
        return task.domain_check(domain, resolvers, port, selectors)
    check, warnings = task.dns_check(here(), os.environ, resolvers, port, blocklists, smtp_too=smtp_too)
    console.warn(*warnings)
    return check


def _watched(check: "Callable[[], Report]", minutes: float) -> "Report":
    from mailstack.tasks import dns_check as task  # noqa: PLC0415

    return task.watched(check, minutes * 60, lambda report: console.progress(_progress(report)))


def _progress(report: "Report") -> str:
    """A line for each change while a person waits."""
    first = report.findings[0]
    return f"{report.summary}; first: {first.name} {first.type}: {console.printable(first.what)}"
