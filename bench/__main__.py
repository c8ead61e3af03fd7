"""The command line: python -m bench."""

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import click

from bench import report
from bench.arena import Arena
from bench.candidates import NAMES
from bench.figures import Figures
from bench.measure import FULL, QUICK, measure
from mailstack.console import fail
from mailstack.errors import MailstackError


@click.group(help=__doc__)
def main() -> None:
    pass


@main.command()
@click.option("--quick", is_flag=True, help="One load at one number of sessions: five minutes at most.")
@click.option("--tls", is_flag=True, help="All mail comes by TLS, and all set-ups have the same kind of certificate.")
@click.option("--hold", type=int, help="Open sessions for the memory, in place of 100.")
@click.option(
    "--save",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write all figures to this file, too, as JSON.",
)
@click.option("--base-image", default="debian:trixie-slim", show_default=True, help="Debian 13.")
def run(*, quick: bool, tls: bool, hold: int | None, save: Path | None, base_image: str) -> None:
    """Measure all candidates and print what came out. What is started is removed at the end."""
    if save and not os.access(save.absolute().parent, os.W_OK | os.X_OK):
        raise click.BadParameter(f"{save}: its directory is not there, or not writable")
    with tempfile.TemporaryDirectory(prefix="mailstack-bench-") as directory:
        try:
            with Arena(Path(directory), base_image=base_image, names=NAMES, tls=tls) as arena:
                plan = QUICK if quick else FULL
                figures = replace(measure(arena, replace(plan, hold=hold or plan.hold)), tls=tls)
        except MailstackError as error:
            fail(str(error))
            sys.exit(error.exit_code)
    click.echo(report.text(figures), nl=False)
    if save:
        try:
            save.write_text(figures.to_json())
        except OSError as error:
            raise click.FileError(str(save), error.strerror) from None


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def show(file: Path) -> None:
    """Print the tables of what "run --save" wrote earlier."""
    click.echo(report.text(_read(file)), nl=False)


@main.command()
@click.argument("first", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("second", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--relative", is_flag=True, help="To the mean of all set-ups in a round: for a machine that changes its speed."
)
def agree(first: Path, second: Path, *, relative: bool) -> None:
    """Compare what two runs both have; ends with 1 if set-ups are missing or medians more than 10 % apart."""
    text, agreed = report.agreement(_read(first), _read(second), relative=relative)
    click.echo(text, nl=False)
    sys.exit(0 if agreed else 1)


def _read(file: Path) -> Figures:
    try:
        return Figures.from_json(file.read_text())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise click.BadParameter(f"{file}: is not what 'run --save' writes ({error})") from None


if __name__ == "__main__":
    main()
