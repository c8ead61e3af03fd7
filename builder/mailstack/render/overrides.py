"""What a site adds to a daemon's configuration: overrides/<service>/<file>, appended to the rendered file.

Postfix warns in every process about a parameter or service that its files name twice; so what an override names is
taken out of the rendered file first.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from mailstack import reading
from mailstack.errors import Fault, SettingsError, os_reason
from mailstack.services import SERVICES
from mailstack.settings.model import PREFIX
from mailstack.tree import File, Tree

DIRECTORY = "overrides"
# overrides/<service>/<file> → the rendered file, by its path in the container.
TARGETS = {f"{one.name}/{name}": path for one in SERVICES for name, path in one.overridable.items()}
_CAN_BE = f"possible names are {', '.join(TARGETS)}"
# postconf(5): "name = value"; master(5): service and type are the first two fields.
_PARAMETER = re.compile(r"([A-Za-z0-9_]+)\s*=")
_SERVICE = re.compile(r"(\S+\s+\S+)\s")
# From opendkim.conf(5): what a container is made for, and what the options On-... take.
_FIXED = {
    **dict.fromkeys(
        ("socket", "umask", "userid", "changerootdirectory", "background"), "which Postfix needs to find opendkim"
    ),
    **dict.fromkeys(("authservid", "authservidwithjobid"), "which dmarc needs to find opendkim's results"),
    "mode": "so mail would leave unsigned or come in unverified",
    "include": "but the build does not see that file: write its lines here",
}
_ACTIONS = ("accept", "discard", "quarantine", "reject", "tempfail")
# postconf(5): which milters see a message, and what they learn of it. Without dmarc among them, after OpenDKIM, mail
# comes in unjudged, with what OpenDKIM found under the secret authserv-id. Milters see nothing of what a proxy filter
# takes (MILTER_README). What master.cf sets for one service is for check-configuration in Postfix's image to find.
_MILTERS = re.compile(
    r"smtpd_milters|non_smtpd_milters|smtpd_milter_maps|smtpd_proxy_filter|milter_protocol|milter_\w+_macros"
    r"|milter_macro_(daemon_name|defaults|v)"
)
_DEFAULT_ACTION = "milter_default_action"


def read(directory: Path) -> dict[str, str]:
    """The overrides of a site, by their path below overrides/.

    Raises SettingsError for a file that would go nowhere and for one that cannot be read.
    """
    root = directory / DIRECTORY
    found: dict[str, str] = {}
    faults: list[Fault] = []

    def refuse(path: str | Path, remedy: str) -> None:
        faults.append(Fault(Path(path).relative_to(directory).as_posix(), None, remedy))

    for path in _files(root, refuse):
        name = path.relative_to(root).as_posix()
        if name not in TARGETS:
            refuse(path, f"is not used; {_CAN_BE}")
            continue
        try:
            found[name] = reading.text(path)
        except UnicodeDecodeError:
            refuse(path, "is not UTF-8; save it in that encoding")
        except OSError as error:
            refuse(path, f"cannot be read: {os_reason(error)}")
    for remedy in _not_to_be_set(found.get("opendkim/opendkim.conf", "")):
        refuse(root / "opendkim/opendkim.conf", remedy)
    for remedy in _unjudged(found.get("postfix/main.cf", "")):
        refuse(root / "postfix/main.cf", remedy)
    if faults:
        raise SettingsError(faults)
    return found


def _files(root: Path, refuse: Callable[[str | Path, str], None]) -> list[Path]:
    """The files below root but hidden ones; a directory that cannot be listed is refused, not taken for empty.

    So is one that is deeper than any file of TARGETS, where links may lead round in circles.
    """

    def unreadable(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            refuse(error.filename, f"cannot be read: {os_reason(error)}")

    found: list[Path] = []
    for parent, directories, files in os.walk(root, onerror=unreadable, followlinks=True):
        found += [Path(parent, name) for name in files if not name.startswith(".")]
        if Path(parent) != root:
            for name in sorted(directories):
                if not name.startswith("."):
                    refuse(Path(parent, name), f"is a directory, whose files are not used; {_CAN_BE}")
            directories.clear()
    return sorted(found)


def _unjudged(text: str) -> Iterator[str]:
    """What in main.cf would let mail pass by dmarc, or by OpenDKIM."""
    for entry in re.sub(r"\n(?:#.*\n|\s*\n)*[ \t]+", " ", text).splitlines():
        parameter = _parameter(entry) or ""
        if _MILTERS.fullmatch(parameter):
            yield f"sets {parameter}, so mail would bypass dmarc; name your own milters in {PREFIX}EXTRA_MILTERS"
        elif parameter == _DEFAULT_ACTION:
            yield f"sets {parameter}; write {PREFIX}MILTER_DEFAULT_ACTION in .env"
        elif parameter == "receive_override_options" and "no_milters" in entry:
            yield (
                "has no_milters in receive_override_options, so mail would bypass dmarc; write it in master.cf "
                "for a service on 127.0.0.1"
            )


def _not_to_be_set(text: str) -> Iterator[str]:
    """What opendkim takes and nobody means: a place where nobody looks for it, an action that it then ignores."""
    for line in text.splitlines():
        option, *value = line.partition("#")[0].split() or [""]
        if option.lower() in _FIXED:
            yield f"sets {option}, {_FIXED[option.lower()]}; remove the line"
        elif option.lower().startswith("on-") and " ".join(value).lower() not in _ACTIONS:
            yield f"has {' '.join([option, *value])!r}; write {option} with one of {', '.join(_ACTIONS)}"


def applied(service: str, tree: Tree, overrides: Mapping[str, str]) -> Tree:
    """A service's rendered files with its overrides in them."""
    files = dict(tree)
    for name, text in overrides.items():
        target = TARGETS[name]
        if name.partition("/")[0] != service:
            continue
        ours = tree[target].content.decode()
        if service == "postfix":
            ours = _without(ours, text, _parameter if name.endswith("main.cf") else _service)
        joined = f"{ours.rstrip()}\n\n# From {DIRECTORY}/{name}\n{text.rstrip()}\n"
        files[target] = File(joined.encode(), tree[target].mode)
    return Tree(files)


def _parameter(line: str) -> str | None:
    found = _PARAMETER.match(line)
    return found and found[1]


def _service(line: str) -> str | None:
    found = None if line.startswith("#") else _SERVICE.match(line)
    return found and " ".join(found[1].split())


def _without(ours: str, theirs: str, name_of: Callable[[str], str | None]) -> str:
    """Our entries but those that theirs names; a line that begins with a blank goes on with the entry before it."""
    named = {name_of(line) for line in theirs.splitlines()} - {None}
    kept, dropping = [], False
    for line in ours.splitlines():
        if not line[:1].isspace():
            dropping = name_of(line) in named
        if not dropping:
            kept.append(line)
    return "\n".join(kept)
