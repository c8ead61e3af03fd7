"""The variables of a site, from .env and the environment, and every fault in them as a person should read it."""

import difflib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from dotenv.parser import Binding, parse_stream
from pydantic import BeforeValidator, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import NoDecode

from mailstack import checks
from mailstack.errors import Fault, SettingsError
from mailstack.settings import PREFIX, Settings, example, variable

FILE_SUFFIX = "_FILE"
# In place of a value that is missing or refused, so that the other settings can be judged.
_STAND_INS = {f"{PREFIX}HOSTNAME": "not.set.example", f"{PREFIX}DOMAINS": "not.set.example"}
# A name and a password in front of a host (RFC 3986 section 3.2.1) are shown to nobody; they may hold / and @ too.
_USER_INFO = re.compile(r"((?:\w+:)?//)?.*@")
_WITH_HOSTS = {"delivery", "extra_milters", "relay_host", "base_image", "apt_mirror", "build_proxy"}
_OURS = re.compile(rf"\s*(?:export\s+)?({PREFIX}\w*)")
_KNOWN = {variable(name): info for name, info in Settings.model_fields.items()}


def read_environment(directory: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The MAILSTACK_ variables of directory/.env and of the environment; the environment wins, as in compose.

    NAME_FILE is read into NAME: a file's content, in which lines that begin with "#" do not count.
    """
    file = directory / ".env"
    merged = _of_file(file) | dict(environment)
    ours = {name: value for name, value in merged.items() if name.upper().startswith(PREFIX)}
    if not ours:
        remedy = "sets nothing" if os.path.lexists(file) else "is not there"
        raise SettingsError([Fault(str(file), None, f"{remedy}; 'mailstack init' writes one")])
    return _with_files(directory, ours)


def sources(directory: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Where each variable that is set comes from: the environment, .env, or a file that one of them names."""
    values = _of_file(directory / ".env")
    found = dict.fromkeys(values, ".env") | dict.fromkeys(environment, "environment")
    for name in [one for one in found if one.endswith(FILE_SUFFIX)]:
        found[name.removesuffix(FILE_SUFFIX)] = (values | dict(environment))[name]
    return {name: source for name, source in found.items() if name in _KNOWN}


def _of_file(file: Path) -> dict[str, str]:
    """A .env by python-dotenv's grammar; what would be lost there, or read otherwise by compose, is a fault.

    One that is not there sets nothing.
    """
    try:
        with file.open(encoding="utf-8-sig") as stream:
            bindings = list(parse_stream(stream))
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError:
        raise SettingsError([Fault(str(file), None, "is not UTF-8; save it in that encoding")]) from None
    except OSError as error:
        raise SettingsError([Fault(str(file), None, f"cannot be read: {error.strerror}")]) from None
    values: dict[str, str] = {}
    faults = []
    for one in bindings:
        where = f"{file}, line {one.original.line}"
        if one.error or (one.key is not None and one.value is None):
            remedy = "is not NAME=VALUE; a value with blanks stands in quotes, and a quote that opens also closes"
            # The rest of the line, or a line of somebody else's, may be a secret.
            name = _OURS.match(one.original.string)
            faults.append(Fault(where, name and name[1], remedy))
        elif one.key is not None and one.value is not None:
            faults += [Fault(where, one.key, remedy) for remedy in _misread(one, values)]
            values[one.key] = one.value
    if faults:
        raise SettingsError(faults)
    return values


def _misread(one: Binding, before: Mapping[str, str]) -> Iterator[str]:
    if one.key is None or not one.key.startswith(PREFIX):
        return
    if one.key in before:
        yield "is set a second time; keep one of the two lines"
    if one.value and "$" in one.value and f"'{one.value}'" not in one.original.string:
        yield "holds a $, which docker compose would take for a variable; put the value into single quotes"


def _with_files(directory: Path, given: Mapping[str, str]) -> dict[str, str]:
    values = dict(given)
    faults = []
    for name in sorted(given):
        setting = name.removesuffix(FILE_SUFFIX)
        if setting == name or name in _KNOWN or setting not in _KNOWN:
            continue
        path = values.pop(name)
        if setting in given:
            faults.append(Fault(name, path, f"is set beside {setting}; keep one of the two"))
            continue
        try:
            lines = (directory / path).read_text(encoding="utf-8-sig").splitlines()
            values[setting] = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
        except UnicodeDecodeError:
            faults.append(Fault(name, path, "is not UTF-8; save it in that encoding"))
        except (OSError, ValueError) as error:
            # A path with a NUL in it is a ValueError.
            said = error.strerror if isinstance(error, OSError) else error
            faults.append(Fault(name, path, f"cannot be read: {said}; write a path from the directory of .env"))
    if faults:
        raise SettingsError(faults)
    return values


@dataclass
class _Read:
    """What one pass of validation said: the settings, or each fault with the token that it lies in."""

    settings: Settings | None = None
    faults: list[Fault] = field(default_factory=list)
    refused: dict[str, list[str]] = field(default_factory=dict)


def load(environment: Mapping[str, str]) -> Settings:
    """Validate the MAILSTACK_ variables of a mapping.

    Raises SettingsError with every fault: unknown names, bad tokens, settings that contradict each other. An empty
    value counts as not set where the setting has a default, apart from lists, which it empties.
    """
    faults = [_unknown(name) for name in sorted(environment) if name not in _KNOWN]
    given = {
        name: value.strip()
        for name, value in environment.items()
        if name in _KNOWN and (value.strip() or _splitter(name))
    }
    read = _validate(given)
    faults += read.faults
    rest = read.settings or _validate(_without(given, read.refused)).settings
    if rest is not None:
        faults += checks.contradictions(rest, read.refused)
    if faults or read.settings is None:
        raise SettingsError(faults)
    return read.settings


def _validate(given: Mapping[str, str]) -> _Read:
    try:
        return _Read(Settings(environment=given))
    except ValidationError as error:
        read = _Read()
        for detail in error.errors():
            setting = str(detail["loc"][0])
            token = _token(detail, given.get(variable(setting)))
            read.faults.append(_fault(detail, setting, token))
            read.refused.setdefault(setting, []).append(token or "")
        return read


def _without(given: Mapping[str, str], refused: checks.Refused) -> dict[str, str]:
    """The variables without the tokens that were refused: a list keeps its others, everything else its default."""
    rest = dict(given)
    for name, tokens in refused.items():
        value = rest.pop(variable(name), "")
        split = _splitter(variable(name))
        if split:
            kept = [one for one in split(value) if one not in tokens]
            if kept or variable(name) not in _STAND_INS:
                rest[variable(name)] = ",".join(kept)
    return _STAND_INS | rest


def _splitter(name: str) -> Callable[[str], list[str]] | None:
    """What makes tokens of a variable's value, if it is a list; its setting says so itself."""
    metadata = _KNOWN[name].metadata
    if NoDecode not in metadata:
        return None
    split = next(one.func for one in metadata if isinstance(one, BeforeValidator))
    return cast("Callable[[str], list[str]]", split)


def _unknown(name: str) -> Fault:
    # Every name begins with the prefix, which says nothing about likeness.
    near = difflib.get_close_matches(name.upper()[len(PREFIX) :], [one[len(PREFIX) :] for one in _KNOWN], n=1)
    return Fault(
        name, None, f"is no setting of mailstack; {f'did you mean {PREFIX}{near[0]}?' if near else 'remove it'}"
    )


def _token(detail: ErrorDetails, value: str | None) -> str | None:
    """The token at fault as it was typed; empty for a variable that is missing, or is an empty list."""
    if detail["type"] == "missing":
        return None
    if detail["type"] == "too_short":
        return value or ""
    return str(detail["input"]) if isinstance(detail["input"], str | int) else value


def _fault(detail: ErrorDetails, setting: str, token: str | None) -> Fault:
    name = variable(setting)
    if token and setting in _WITH_HOSTS:
        token = _USER_INFO.sub(r"\1…@", token)
    match detail["type"]:
        case "missing":
            return Fault(name, None, f"is not set and has no default; write it such as {example(setting)}")
        case "too_short":
            return Fault(name, token, f"is an empty list; name at least one, such as {example(setting)}")
        case "literal_error":
            return Fault(name, token, f"is not one of the values {detail['ctx']['expected']}")
        case "value_error":
            return Fault(name, token, str(detail["ctx"]["error"]))
        case _:
            return Fault(name, token, f"is not text; write it such as {example(setting)}")
