"""What a person reads while a command works: always on stderr, because stdout is data."""

import os

import click

from mailstack import compose


def printable(text: str, *, also: str = "") -> str:
    """What a stranger wrote, without what would steer a terminal; also has what stays all the same."""
    return "".join(letter if letter.isprintable() or letter in also else "?" for letter in text)


def progress(text: str) -> None:
    click.echo(compose.spoken(text), err=True)


def begin_step(text: str) -> None:
    """Say what begins; the line ends when it does."""
    click.echo(text, err=True, nl=False)


def end_step(text: str) -> None:
    click.echo(f" ({text})", err=True)


def warn(*texts: str) -> None:
    for text in texts:
        _say("warning: ", "yellow", text)


def fail(text: str) -> None:
    for line in text.splitlines():
        _say("error: ", "red", line)


def _say(kind: str, colour: str, text: str) -> None:
    # https://no-color.org; without it click looks whether this is a terminal.
    plain = False if os.environ.get("NO_COLOR") else None
    click.echo(click.style(kind, fg=colour) + printable(compose.spoken(text), also="\t\n"), err=True, color=plain)
