"""The variables of a site, from .env and the environment, and every fault in them as a person should read it."""

import difflib
import io
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dotenv.parser import Binding, parse_stream
from pydantic import BeforeValidator, ValidationError
from pydantic_core import ErrorDetails

from mailstack import reading
from mailstack.errors import Fault, SettingsError, os_reason
from mailstack.settings.checks import addresses as checks
from mailstack.settings.model import PREFIX, Settings, example, variable
from mailstack.values.tokens import split_commas, split_list

FILE_SUFFIX = "_FILE"
# In place of a value that is missing or refused, so that the other settings can be judged.
_STAND_INS = {f"{PREFIX}HOSTNAME": "not.set.example", f"{PREFIX}DOMAINS": "not.set.example"}
# A name and a password in front of a host (RFC 3986 section 3.2.1) are shown to nobody; they may hold / and @ too.
_USER_INFO = re.compile(r"\A((?:\w+:)?//)?.*@", re.DOTALL)
_WITH_HOSTS = {"delivery", "extra_milters", "relay_host", "base_image", "apt_mirror", "build_proxy"}
_ALL_BUT = 0.9
# Variables of docker compose, by which it would start something else than what was built.
_OF_COMPOSE = {
    "COMPOSE_PROJECT_NAME": (
        f"would start this site under another name than its own, which is made from {PREFIX}HOSTNAME; remove it"
    ),
    "COMPOSE_FILE": (
        "would have docker compose read other files than compose.yaml; remove it, and write what you add into "
        "compose.override.yaml"
    ),
}
_OURS = re.compile(rf"\s*(?:export\s+)?({PREFIX}\w*)")
_IN_SINGLE_QUOTES = re.compile(r"\s*(?:export\s+)?[^=]+=\s*'")
# Values of older versions, and what does the same now.
_FORMER = {
    ("local_sender", action): f"was a value of an older version; write {variable('local_sender')}=envelope and "
    f"{variable('local_sender_action')}={action}, or leave it out for the new default 'aligned'"
    for action in ("discard", "reject")
}
_RELAY_LOGIN = re.compile(r"RELAY\w*_(?:USER|LOGIN|PASS|AUTH|SASL|CRED)|SASL|SMTP_(?:USER|PASS)")
_KNOWN = {variable(name): info for name, info in Settings.model_fields.items()}


@dataclass
class _Gathered:
    """The variables that could be read, what is wrong with the others, and these by name."""

    values: dict[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    unread: set[str] = field(default_factory=set)


def read_settings(directory: Path, environment: Mapping[str, str]) -> Settings:
    """The settings of directory/.env and of the environment. Raises SettingsError with every fault of both."""
    found = _gather(directory, environment)
    settings, faults = _judge(found.values, found.unread)
    if found.faults or faults or settings is None:
        raise SettingsError([*found.faults, *faults])
    return settings


def read_environment(directory: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The MAILSTACK_ variables of directory/.env and of the environment; the environment wins, as in compose.

    NAME_FILE is read into NAME: a file's content, in which lines that begin with "#" do not count.
    """
    found = _gather(directory, environment)
    if found.faults:
        raise SettingsError(found.faults)
    return found.values


def _gather(directory: Path, environment: Mapping[str, str]) -> _Gathered:
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
        return f"sets no {PREFIX} variable; write {PREFIX}HOSTNAME and the others into it, as README's table has them"
    if file.is_symlink():
        return f"is a link to {file.readlink()}, which does not exist; put the file there, or remove the link"
    return "does not exist; 'mailstack init' writes one"


def sources(directory: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Where each variable that is set comes from: the environment, .env, or a file that one of them names."""
    values = _of_file(directory / ".env").values
    found = dict.fromkeys(values, ".env") | dict.fromkeys(environment, "environment")
    for name in [one for one in found if one.endswith(FILE_SUFFIX)]:
        found[name.removesuffix(FILE_SUFFIX)] = (values | dict(environment))[name]
    return {name: source for name, source in found.items() if name in _KNOWN}


def _of_file(file: Path) -> _Gathered:
    """A .env by python-dotenv's grammar; what would be lost there, or read otherwise by compose, is a fault.

    One that is not there sets nothing. Raises SettingsError for one that cannot be read.
    """
    found = _Gathered()
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
            remedy = "is not NAME=VALUE; a value with blanks stands in quotes, and a quote that opens also closes"
            # The rest of the line, or a line of somebody else's, may be a secret.
            name = _OURS.match(one.original.string)
            found.faults.append(Fault(where, name and name[1], remedy))
            if name:
                found.unread |= {name[1], name[1].removesuffix(FILE_SUFFIX)} & _KNOWN.keys()
        elif one.key is not None and one.value is not None:
            found.faults += [Fault(where, one.key, remedy) for remedy in _misread(one, found.values)]
            found.values[one.key] = one.value
    return found


def _misread(one: Binding, before: Mapping[str, str]) -> Iterator[str]:
    if one.key is None:
        return
    if not one.key.startswith(PREFIX):
        # Another program's, unless it is all but one of ours; a wrong name with the right prefix is _unknown()'s.
        near = difflib.get_close_matches(one.key.upper(), _KNOWN, n=1, cutoff=_ALL_BUT)
        if near and not one.key.upper().startswith(PREFIX):
            yield f"is not read by mailstack; did you mean {near[0]}?"
        return
    if one.key in before:
        yield "is set a second time, and the first line would count for nothing; remove one of them"
    if one.value and "$" in one.value and not _IN_SINGLE_QUOTES.match(one.original.string):
        yield (
            "holds a $, and mailstack puts in no other variable's value: write that value itself. Where a $ is meant, "
            "put the whole into single quotes, or docker compose takes it for a variable"
        )


def _read_files(directory: Path, found: _Gathered) -> None:
    """Put the content of each NAME_FILE into NAME."""
    given = dict(found.values)
    for name in sorted(given):
        setting = name.removesuffix(FILE_SUFFIX)
        if setting == name or name in _KNOWN or setting not in _KNOWN:
            continue
        path = found.values.pop(name)
        if setting in given:
            remedy = f"is set beside {setting}, in .env or in the environment; remove one of the two"
            found.faults.append(Fault(name, path, remedy))
            continue
        found.unread.add(setting)
        try:
            lines = reading.text(directory / path).splitlines()
            found.values[setting] = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
            found.unread.remove(setting)
        except UnicodeDecodeError:
            found.faults.append(Fault(name, path, "is not UTF-8; save it in that encoding"))
        except (OSError, ValueError) as error:
            # A path with a NUL in it is a ValueError.
            said = os_reason(error) if isinstance(error, OSError) else error
            remedy = f"cannot be read: {said}; write a path from the directory of .env"
            found.faults.append(Fault(name, path, remedy))


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
    settings, faults = _judge(environment)
    if faults or settings is None:
        raise SettingsError(faults)
    return settings


def _judge(environment: Mapping[str, str], unread: Collection[str] = ()) -> tuple[Settings | None, list[Fault]]:
    """The settings, and every fault; what could not be read is nobody's fault again, and may mean anything."""
    faults = [_unknown(name) for name in sorted(environment) if name not in _KNOWN]
    given = {
        name: value.strip()
        for name, value in environment.items()
        if name in _KNOWN and name not in unread and (value.strip() or _splitter(name))
    }
    read = _validate(given)
    faults += [fault for fault in read.faults if fault.variable not in unread]
    for name in unread:
        read.refused[_setting(name)] = [""]
    rest = read.settings or _validate(_without(given, read.refused)).settings
    if rest is not None:
        faults += checks.contradictions(rest, read.refused)
    return read.settings, faults


def _validate(given: Mapping[str, str]) -> _Read:
    try:
        return _Read(Settings.model_validate({_setting(name): value for name, value in given.items()}))
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
            wrong = set(tokens)
            kept = [one for one in split(value) if one not in wrong]
            if kept or variable(name) not in _STAND_INS:
                rest[variable(name)] = ",".join(kept)
    return _STAND_INS | rest


def _splitter(name: str) -> Callable[[str], list[str]] | None:
    """What makes tokens of a variable's value, if it is a list; its setting says so itself."""
    parsers = [one.func for one in _KNOWN[name].metadata if isinstance(one, BeforeValidator)]
    return next((one for one in (split_list, split_commas) if one in parsers), None)


def _setting(name: str) -> str:
    """The setting of a variable."""
    return name.removeprefix(PREFIX).lower()


def _unknown(name: str) -> Fault:
    # Every name begins with the prefix, which says nothing about likeness.
    if _RELAY_LOGIN.search(name.upper()):
        remedy = "is no setting of mailstack; logging in to a relay is not supported yet"
        return Fault(name, None, f"{remedy}, so use one that takes mail from this host's address")
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
        case "literal_error" if (setting, token) in _FORMER:
            return Fault(name, token, _FORMER[setting, str(token)])
        case "literal_error":
            return Fault(name, token, f"is not one of the values {detail['ctx']['expected']}")
        case "value_error":
            return Fault(name, token, str(detail["ctx"]["error"]))
        case _:
            return Fault(name, token, f"is not text; write it such as {example(setting)}")
