"""What a site adds to a daemon's configuration: overrides/<service>/<file>, appended to the rendered file.

Postfix warns in every process about a parameter or service that its files name twice; so what an override names is
taken out of the rendered file first.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from mailstack.errors import Fault, SettingsError
from mailstack.tree import File, Tree

DIRECTORY = "overrides"
# overrides/<service>/<file> → the rendered file, by its path in the container.
TARGETS = {
    "postfix/main.cf": "etc/postfix/main.cf",
    "postfix/master.cf": "etc/postfix/master.cf",
    "opendkim/opendkim.conf": "etc/opendkim/opendkim.conf",
    "resolver/unbound.conf": "etc/unbound/mailstack.conf",
}
# postconf(5): "name = value"; master(5): service and type are the first two fields.
_PARAMETER = re.compile(r"([A-Za-z0-9_]+)\s*=")
_SERVICE = re.compile(r"(\S+\s+\S+)\s")


def read(directory: Path) -> dict[str, str]:
    """The overrides of a site, by their path below overrides/.

    Raises SettingsError for a file that would go nowhere and for one that cannot be read.
    """
    root = directory / DIRECTORY
    found: dict[str, str] = {}
    faults = []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_dir() or path.name.startswith("."):
            continue
        if name not in TARGETS:
            remedy = f"is appended to nothing; files that can be added to are {', '.join(TARGETS)}"
            faults.append(Fault(f"{DIRECTORY}/{name}", None, remedy))
            continue
        try:
            found[name] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            faults.append(Fault(f"{DIRECTORY}/{name}", None, f"cannot be read: {error}"))
    if faults:
        raise SettingsError(faults)
    return found


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
