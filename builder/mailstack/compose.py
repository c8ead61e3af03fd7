"""How docker compose is run: as a plugin of the docker command, or as a program from mailstack's own environment.

And how a text for a person names both commands, compose's and mailstack's own.
"""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

_PLUGIN = ("docker", "compose")
_NAME = "mailstack"
VERBS = (
    "backup",
    "base",
    "build",
    "config",
    "dkim",
    "dns",
    "first-steps",
    "init",
    "queue",
    "restore",
    "status",
    "trace",
)
# The name as a command, and not as the product's or a part of a path.
_OWN = re.compile(rf"(?<![\w./-]){_NAME}(?= (?:{'|'.join(VERBS)})\b)")


def command() -> tuple[str, ...]:
    """The words before compose's own arguments.

    The program is there where somebody put it because the plugin is missing, as tools/set-up does. Outside a virtual
    environment one of this name may be Compose 1.
    """
    program = Path(sys.prefix, "bin", "docker-compose")
    return (str(program),) if sys.prefix != sys.base_prefix and program.exists() else _PLUGIN


def spoken(text: str) -> str:
    """A text for a person, with compose's commands and mailstack's own so that they can be pasted."""
    return _OWN.sub(lambda _: _own_name(), _with_compose(text))


def _with_compose(text: str) -> str:
    words = " ".join(_PLUGIN)
    if words not in text or command() == _PLUGIN:
        return text
    (program,) = command()
    below = os.path.relpath(program)
    return text.replace(words, shlex.quote(program if below.startswith("..") else below))


def _own_name() -> str:
    """The name of this program, or the path that it was called by, if the name finds nothing or another program."""
    called, found = sys.argv[0], shutil.which(_NAME)
    if Path(called).name != _NAME or (found and os.path.realpath(found) == os.path.realpath(called)):
        return _NAME
    return shlex.quote(called)
