"""The command line: python -m bench."""

import sys
import tempfile
from pathlib import Path

import click

from bench import report
from bench.arena import Arena
from bench.candidates import NAMES
from bench.figures import BARE, Figures
from bench.measure import FULL, QUICK, measure
from mailstack.console import fail
from mailstack.errors import MailstackError


@click.group(help=__doc__)
def main() -> None:
    pass


@main.command()
@click.option("--quick", is_flag=True, help="Fewer points, messages and rounds: five minutes at most.")
@click.option("--json", "as_json", is_flag=True, help="Print all figures as JSON, in place of tables.")
@click.option("--base-image", default="debian:trixie-slim", show_default=True, help="The Debian 13 image of all images.")
def run(*, quick: bool, as_json: bool, base_image: str) -> None:
    """Measure all candidates and print what came out. What is started is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="mailstack-bench-") as directory:
        try:
            with Arena(Path(directory), base_image=base_image, names=NAMES) as arena:
                figures = measure(arena, QUICK if quick else FULL)
        except MailstackError as error:
            fail(str(error))
            sys.exit(error.exit_code)
    click.echo(figures.to_json() if as_json else report.text(figures), nl=False)


if __name__ == "__main__":
    main()
