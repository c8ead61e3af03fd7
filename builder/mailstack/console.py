"""What a person reads while a command works: always on stderr, because stdout is data."""

import click


def progress(text: str) -> None:
    click.echo(text, err=True)


def begin_step(text: str) -> None:
    """Say what begins; the line ends when it does."""
    click.echo(text, err=True, nl=False)


def end_step(text: str) -> None:
    click.echo(f" ({text})", err=True)


def warn(*texts: str) -> None:
    for text in texts:
        click.echo(click.style("warning: ", fg="yellow") + text, err=True)


def fail(text: str) -> None:
    for line in text.splitlines():
        click.echo(click.style("error: ", fg="red") + line, err=True)
