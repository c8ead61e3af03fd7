"""The variables of a site, from .env, from the environment, and from the files that these name."""

import difflib
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dotenv.parser import Binding, parse_stream

from mailstack import reading
from mailstack.errors import Fault, SettingsError, os_reason
from mailstack.settings.model import PREFIX, Settings, variable

FILE_SUFFIX = "_FILE"
_ALL_BUT = 0.9
# Variables of docker compose, by which it would start something else than what was built.
_OF_COMPOSE = {
    "COMPOSE_PROJECT_NAME": (
        f"would start this site under another project name than its own, which comes from {PREFIX}HOSTNAME; remove it"
    ),
    "COMPOSE_FILE": (
        "would make docker compose read other files than compose.yaml; remove it, and put your additions into "
        "compose.override.yaml"
    ),
}
_OURS = re.compile(rf"\s*(?:export\s+)?({PREFIX}\w*)")
_IN_SINGLE_QUOTES = re.compile(r"\s*(?:export\s+)?[^=]+=\s*'")
# What is shown to nobody.
SECRETS = {variable("relay_password"), variable("relay_logins")}
KNOWN = {variable(name): info for name, info in Settings.model_fields.items()}


@dataclass
class Gathered:
    """The variables that could be read, what is wrong with the others, and these by name."""

    values: dict[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    unread: set[str] = field(default_factory=set)


def read_environment(directory: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The MAILSTACK_ variables of directory/.env and of the environment; the environment wins, as in compose.

    NAME_FILE is read into NAME: a file's content, in which lines that begin with "#" do not count.
    """
    found = gather(directory, environment)
    if found.faults:
        raise SettingsError(found.faults)
    return found.values


def gather(directory: Path, environment: Mapping[str, str]) -> Gathered:
    """The variables, and what is wrong with those that cannot be read. Raises SettingsError if nothing is set."""
    file = directory / ".env"
    found = _of_file(file)
    merged = found.values | dict(environment)
    found.values = {name: value for name, value in merged.items() if name.upper().startswith(PREFIX)}
    if not found.values and not found.faults:
        raise SettingsError([Fault(str(file), None, _nothing_set(file))])
    found.faults += [Fault(name, merged[name], remedy) for name, remedy in _OF_COMPOSE.items() if merged.get(name)]
    _read_files(directory, found)
    return found


def _nothing_set(file: Path) -> str:
    if file.exists():
        return f"sets no {PREFIX} variable; add {PREFIX}HOSTNAME and the other settings of README's table"
    if file.is_symlink():
        return f"is a link to {file.readlink()}, which does not exist; put the file there, or remove the link"
    return "does not exist; 'mailstack init' writes one"


def sources(directory: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Where each variable that is set comes from: the environment, .env, or a file that one of them names."""
    values = _of_file(directory / ".env").values
    found = dict.fromkeys(values, ".env") | dict.fromkeys(environment, "environment")
    for name in [one for one in found if one.endswith(FILE_SUFFIX)]:
        found[name.removesuffix(FILE_SUFFIX)] = (values | dict(environment))[name]
    return {name: source for name, source in found.items() if name in KNOWN}


def _of_file(file: Path) -> Gathered:
    """A .env by python-dotenv's grammar; what would be lost there, or read otherwise by compose, is a fault.

    One that is not there sets nothing. Raises SettingsError for one that cannot be read.
    """
    found = Gathered()
    try:
        bindings = list(parse_stream(io.StringIO(reading.text(file))))
    except FileNotFoundError:
        return found
    except UnicodeDecodeError:
        raise SettingsError([Fault(str(file), None, "is not UTF-8; save it in that encoding")]) from None
    except OSError as error:
        raise SettingsError([Fault(str(file), None, f"cannot be read: {os_reason(error)}")]) from None
    for one in bindings:
        where = f"{file}, line {one.original.line}"
        if one.error or (one.key is not None and one.value is None):
            remedy = "is not NAME=VALUE; put a value with blanks in quotes, and close each quote"
            # The rest of the line, or a line of somebody else's, may be a secret.
            name = _OURS.match(one.original.string)
            found.faults.append(Fault(where, name and name[1], remedy))
            if name:
                found.unread |= {name[1], name[1].removesuffix(FILE_SUFFIX)} & KNOWN.keys()
        elif one.key is not None and one.value is not None:
            found.faults += [Fault(where, one.key, remedy) for remedy in _misread(one, found.values)]
            found.values[one.key] = one.value
    return found


def _misread(one: Binding, before: Mapping[str, str]) -> Iterator[str]:
    if one.key is None:
        return
    if not one.key.startswith(PREFIX):
        # Another program's, unless it is all but one of ours; a wrong name with the right prefix is _unknown()'s.
        near = difflib.get_close_matches(one.key.upper(), KNOWN, n=1, cutoff=_ALL_BUT)
        if near and not one.key.upper().startswith(PREFIX):
            yield f"is not read by mailstack; did you mean {near[0]}?"
        return
    if one.key in before:
        yield "is set twice; remove one line"
    if one.value and "$" in one.value and not _IN_SINGLE_QUOTES.match(one.original.string):
        yield (
            "contains $, but variables are not expanded here: write the value itself. For a literal $, put the value "
            "in single quotes"
        )


def _read_files(directory: Path, found: Gathered) -> None:
    """Put the content of each NAME_FILE into NAME."""
    given = dict(found.values)
    for name in sorted(given):
        setting = name.removesuffix(FILE_SUFFIX)
        if setting == name or name in KNOWN or setting not in KNOWN:
            continue
        path = found.values.pop(name)
        if setting in given:
            remedy = f"is set, and so is {setting}, in .env or in the environment; remove one of the two"
            found.faults.append(Fault(name, path, remedy))
            continue
        found.unread.add(setting)
        try:
            lines = reading.text(directory / path).splitlines()
            # A password may begin like a comment.
            kept = (line for line in lines if setting in SECRETS or not line.lstrip().startswith("#"))
            found.values[setting] = "\n".join(kept)
            found.unread.remove(setting)
        except UnicodeDecodeError:
            found.faults.append(Fault(name, path, "is not UTF-8; save it in that encoding"))
        except (OSError, ValueError) as error:
            # A path with a NUL in it is a ValueError.
            said = os_reason(error) if isinstance(error, OSError) else error
            remedy = f"cannot be read: {said}; write a path relative to the directory of .env"
            # Some write the password itself.
            found.faults.append(Fault(name, None if setting in SECRETS else path, remedy))
