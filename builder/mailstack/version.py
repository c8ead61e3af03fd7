"""Which mailstack this is: by git in a checkout, else as it was packed.

pyproject.toml takes the version of a wheel or sdist from here too, so this imports nothing of the package.
"""

import os
import re
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

# Of a copy without git; valid by the version specifiers of Python packages, like all that is made here.
UNKNOWN = "0+unknown"
_DESCRIBED = re.compile(r"(?:v(?P<tag>\d[^-]*)-(?P<after>\d+)-g)?(?P<commit>[0-9a-f]+)(?P<dirty>-dirty)?\n")


@cache
def version() -> str:
    """The version: TAG, TAG.postN+gCOMMIT for N commits after it, 0+gCOMMIT without a tag; .dirty if files differ."""
    root = Path(__file__).resolve().parents[2]
    return of_git(root) or _of_sdist(root) or _installed() or UNKNOWN


def of_git(root: Path) -> str | None:
    """The version by a checkout's history; None where git has nothing to say."""
    if not (root / ".git").exists():
        return None
    # The checkout may be another user's, whose code this is in any case.
    command = ["git", "-C", str(root), "-c", f"safe.directory={root}"]
    command += ["describe", "--tags", "--long", "--always", "--dirty", "--match", "v[0-9]*"]
    # In a hook of git these name the repository that the hook is of.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False, env=environment).stdout
    except OSError:
        return None
    found = _DESCRIBED.fullmatch(said)
    if not found:
        return None
    if found["tag"] and found["after"] == "0" and not found["dirty"]:
        return found["tag"]
    base = f"{found['tag']}.post{found['after']}" if found["tag"] else "0"
    return f"{base}+g{found['commit']}{'.dirty' if found['dirty'] else ''}"


def _of_sdist(root: Path) -> str | None:
    try:
        said = re.search(r"^Version: (.+)$", (root / "PKG-INFO").read_text(), re.MULTILINE)
    except OSError:
        return None
    return said and said[1]


def _installed() -> str | None:
    try:
        return metadata.version("mailstack")
    except metadata.PackageNotFoundError:
        return None
