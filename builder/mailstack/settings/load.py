"""Variables → Settings, or every fault in them as a person should read it."""

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BeforeValidator, ValidationError
from pydantic_core import ErrorDetails

from mailstack.errors import Fault, SettingsError
from mailstack.settings import checks
from mailstack.settings.checks.refused import Refused
from mailstack.settings.environment import KNOWN, SECRETS, gather
from mailstack.settings.model import PREFIX, Settings, example, variable
from mailstack.values.tokens import split_commas, split_lines, split_list

# In place of a value that is missing or refused, so that the other settings can be judged.
_STAND_INS = {f"{PREFIX}HOSTNAME": "not.set.example", f"{PREFIX}DOMAINS": "not.set.example"}
# A name and a password in front of a host (RFC 3986 section 3.2.1) are shown to nobody; they may hold / and @ too.
_USER_INFO = re.compile(r"\A((?:\w+:)?//)?.*@", re.DOTALL)
_WITH_HOSTS = {
    "delivery",
    "extra_milters",
    "sasl",
    "relay_host",
    "relay_hosts",
    "base_image",
    "apt_mirror",
    "build_proxy",
}
# Values of older versions, and what does the same now.
_FORMER = {
    ("local_sender", action): f"is a value of an older version; write {variable('local_sender')}=envelope and "
    f"{variable('local_sender_action')}={action}, or remove it for the new default 'aligned'"
    for action in ("discard", "reject")
}
# What other products call a login at a relay host.
_RELAY_LOGIN = re.compile(r"RELAY\w*_(?:USER|LOGIN|PASS|AUTH|SASL|CRED)|(?:SASL|SMTP)_(?:USER|PASS)")


def read_settings(directory: Path, environment: Mapping[str, str]) -> Settings:
    """The settings of directory/.env and of the environment. Raises SettingsError with every fault of both."""
    found = gather(directory, environment)
    settings, faults = _judge(found.values, found.unread)
    if found.faults or faults or settings is None:
        raise SettingsError([*found.faults, *faults])
    return settings


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
    faults = [_unknown(name) for name in sorted(environment) if name not in KNOWN]
    given = {
        name: value.strip()
        for name, value in environment.items()
        if name in KNOWN and name not in unread and (value.strip() or _splitter(name))
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


def _without(given: Mapping[str, str], refused: Refused) -> dict[str, str]:
    """The variables without the tokens that were refused: a list keeps its others, everything else its default."""
    rest = dict(given)
    for name, tokens in refused.items():
        value = rest.pop(variable(name), "")
        split = _splitter(variable(name))
        if split:
            wrong = set(tokens)
            kept = [one for one in split(value) if one not in wrong]
            if kept or variable(name) not in _STAND_INS:
                rest[variable(name)] = "\n".join(kept)
    return _STAND_INS | rest


def _splitter(name: str) -> Callable[[str], list[str]] | None:
    """What makes tokens of a variable's value, if it is a list; its setting says so itself."""
    parsers = [one.func for one in KNOWN[name].metadata if isinstance(one, BeforeValidator)]
    return next((one for one in (split_list, split_commas, split_lines) if one in parsers), None)


def _setting(name: str) -> str:
    """The setting of a variable."""
    return name.removeprefix(PREFIX).lower()


def _unknown(name: str) -> Fault:
    # Every name begins with the prefix, which says nothing about likeness.
    if _RELAY_LOGIN.search(name.upper()):
        remedy = (
            f"is not a setting of mailstack; a login at the relay host is {PREFIX}RELAY_USER and "
            f"{PREFIX}RELAY_PASSWORD, logins for sender domains are {PREFIX}RELAY_LOGINS"
        )
        return Fault(name, None, remedy)
    near = difflib.get_close_matches(name.upper()[len(PREFIX) :], [one[len(PREFIX) :] for one in KNOWN], n=1)
    return Fault(
        name, None, f"is not a setting of mailstack; {f'did you mean {PREFIX}{near[0]}?' if near else 'remove it'}"
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
    if variable(setting) in SECRETS:
        token = None
    elif setting == "relay_user" and token:
        # Some write the password behind it.
        token = re.sub(":.*", ":…", token, flags=re.DOTALL)
    match detail["type"]:
        case "missing":
            return Fault(name, None, f"is not set and has no default; write, for example: {example(setting)}")
        case "too_short":
            return Fault(name, token, f"is an empty list; write at least one value, for example: {example(setting)}")
        case "literal_error" if (setting, token) in _FORMER:
            return Fault(name, token, _FORMER[setting, str(token)])
        case "literal_error":
            return Fault(name, token, f"is not one of the values {detail['ctx']['expected']}")
        case "value_error":
            # Of a list of secrets the number says which one.
            at = f"entry {int(detail['loc'][1]) + 1} " if name in SECRETS and len(detail["loc"]) > 1 else ""
            return Fault(name, token, f"{at}{detail['ctx']['error']}")
        case _:
            return Fault(name, token, f"is not text; write, for example: {example(setting)}")
