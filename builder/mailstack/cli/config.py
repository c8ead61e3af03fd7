"""The settings of a site."""

import os

import click

from mailstack import console
from mailstack.cli.shared import JSON, here, json_text, table
from mailstack.settings.environment import sources
from mailstack.settings.load import read_settings
from mailstack.settings.reference import settings_rows
from mailstack.tasks.check import check


@click.group()
def config() -> None:
    """The settings of this site."""


@config.command(name="show")
@JSON
def config_show(*, as_json: bool) -> None:
    """Print every setting, its value and where that comes from."""
    chosen = read_settings(here(), os.environ)
    rows = settings_rows(chosen, sources(here(), os.environ))
    click.echo(json_text(rows) if as_json else table([list(row.values()) for row in rows]), nl=False)


@config.command(name="check")
def config_check() -> None:
    """Report every fault of settings, overrides and keys; writes nothing and needs no container engine."""
    console.warn(*check(here(), os.environ))
    console.progress("settings are valid")
