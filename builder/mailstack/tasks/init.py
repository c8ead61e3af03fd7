"""A first .env, from answers."""

import os
from collections.abc import Mapping
from pathlib import Path

import click

from mailstack import console
from mailstack.errors import Fault, MailstackError, SettingsError, os_reason
from mailstack.keys.files import write_new
from mailstack.settings.load import load
from mailstack.settings.model import example, variable
from mailstack.settings.reference import SET, env_file

_QUESTIONS = {
    "hostname": "This host's name, as in its PTR record",
    "domains": "Mail domains, separated by commas",
    "mailboxes": "Mailboxes, separated by commas",
}
_HEAD = "# Settings of mailstack, by 'mailstack init'. After a change: mailstack build\n"


def write(directory: Path, flags: Mapping[str, str | None]) -> Path:
    """Write directory/.env from flags, asking for what they do not say. Raises MailstackError if there is one."""
    path = directory / ".env"
    if os.path.lexists(path):
        raise MailstackError(f"{path}: already exists; edit it, or move it away first")
    answers: dict[str, str] = {}
    for name in _QUESTIONS:
        given = flags.get(name)
        answers[name] = _ask(name, answers) if given is None else given.strip()
    faults = _faults(answers)
    if faults:
        raise SettingsError(faults)
    try:
        # For its owner alone: what it holds may be nobody else's business.
        write_new(path, env_file(answers, _HEAD).encode(), 0o600)
    except OSError as error:
        raise MailstackError(f"{path}: cannot be written: {os_reason(error)}") from None
    return path


def _ask(name: str, answers: Mapping[str, str]) -> str:
    """Ask until the answer is right, as far as what was answered before tells."""
    while True:
        try:
            question = f"{_QUESTIONS[name]} (for example {example(name)})"
            # An empty answer is an answer: click would ask again without a word.
            answer = str(click.prompt(question, default="", show_default=False, err=True)).strip()
        except click.Abort as error:
            if isinstance(error.__context__, EOFError):
                flags = ", ".join(f"--{one}" for one in _QUESTIONS)
                remedy = f"the input ended before all questions were answered; without a terminal, use {flags}"
                raise SettingsError([Fault("mailstack init", None, remedy)]) from None
            raise
        wrong = [one for one in _faults({**SET, **answers, name: answer}) if one.variable == variable(name)]
        if not wrong:
            return answer
        for fault in wrong:
            console.fail(str(fault))


def _faults(answers: Mapping[str, str]) -> tuple[Fault, ...]:
    try:
        load({variable(name): value for name, value in answers.items()})
    except SettingsError as error:
        return error.faults
    return ()
