"""The variables of a site, from .env and the environment, and every fault in them as a person should read it."""

import difflib
from collections.abc import Mapping
from pathlib import Path

from dotenv.parser import parse_stream
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import NoDecode

from mailstack.errors import Fault, SettingsError
from mailstack.settings import PREFIX, FaultyTokensError, Settings


def read_environment(directory: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The MAILSTACK_ variables of directory/.env and of the environment; the environment wins, as in compose."""
    file = directory / ".env"
    values = _parse(file) if file.exists() else {}
    merged = values | dict(environment)
    ours = {name: value for name, value in merged.items() if name.upper().startswith(PREFIX)}
    if not ours:
        remedy = "sets nothing" if file.exists() else "is not there"
        raise SettingsError([Fault(str(file), None, f"{remedy}; copy env.example of mailstack to it and change it")])
    return ours


def _parse(file: Path) -> dict[str, str]:
    """A .env by python-dotenv's grammar; a line that it cannot read is a fault, since its setting would be lost."""
    try:
        with file.open(encoding="utf-8") as stream:
            bindings = list(parse_stream(stream))
    except UnicodeDecodeError:
        raise SettingsError([Fault(str(file), None, "is not UTF-8; save it in that encoding")]) from None
    except OSError as error:
        raise SettingsError([Fault(str(file), None, f"cannot be read: {error.strerror}")]) from None
    faults = [
        Fault(
            f"{file}, line {one.original.line}",
            one.original.string.strip(),
            "is not NAME=VALUE; a value with blanks stands in quotes, and a quote that opens also closes",
        )
        for one in bindings
        if one.error or (one.key is not None and one.value is None)
    ]
    if faults:
        raise SettingsError(faults)
    return {one.key: one.value for one in bindings if one.key is not None and one.value is not None}


def load(environment: Mapping[str, str]) -> Settings:
    """Validate the MAILSTACK_ variables of a mapping.

    Raises SettingsError with every fault: unknown names, bad tokens, settings that contradict each other. An empty
    value counts as not set where the setting has a default, apart from lists, which it empties.
    """
    known = {PREFIX + name.upper(): field for name, field in Settings.model_fields.items()}
    faults = [_unknown(name, list(known)) for name in sorted(environment) if name not in known]
    given = {
        name: value.strip()
        for name, value in environment.items()
        if name in known and (value.strip() or NoDecode in known[name].metadata)
    }
    try:
        settings = Settings(environment=given)
    except ValidationError as error:
        for detail in error.errors():
            faults += _faults(detail, given)
        raise SettingsError(faults) from None
    if faults:
        raise SettingsError(faults)
    return settings


def _unknown(name: str, known: list[str]) -> Fault:
    # Every name begins with the prefix, which says nothing about likeness.
    near = difflib.get_close_matches(name.upper()[len(PREFIX) :], [one[len(PREFIX) :] for one in known], n=1)
    return Fault(
        name, None, f"is no setting of mailstack; {f'did you mean {PREFIX}{near[0]}?' if near else 'remove it'}"
    )


def _faults(detail: ErrorDetails, given: Mapping[str, str]) -> list[Fault]:
    variable = PREFIX + str(detail["loc"][0]).upper()
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, FaultyTokensError):
        return [Fault(variable, token, remedy) for token, remedy in cause.faults]
    token = str(detail["input"]) if isinstance(detail["input"], str | int) else given.get(variable)
    match detail["type"]:
        case "missing":
            return [Fault(variable, None, "is not set; it has no default (env.example shows what belongs there)")]
        case "too_short":
            return [Fault(variable, given.get(variable, ""), "is an empty list; name at least one")]
        case "value_error":
            return [Fault(variable, token, str(cause))]
        case "literal_error":
            return [Fault(variable, token, f"is not one of the values {detail['ctx']['expected']}")]
        case _:
            message = detail["msg"][0].lower() + detail["msg"][1:]
            return [Fault(variable, token, f"cannot be used: {message}")]
