"""How docker compose is run: as a plugin of the docker command, or as a program from mailstack's own environment."""

import os
import shlex
import sys
from pathlib import Path

_PLUGIN = ("docker", "compose")


def command() -> tuple[str, ...]:
    """The words before compose's own arguments.

    The program is there where somebody put it because the plugin is missing, as tools/set-up does. Outside a virtual
    environment one of this name may be Compose 1.
    """
    program = Path(sys.prefix, "bin", "docker-compose")
    return (str(program),) if sys.prefix != sys.base_prefix and program.exists() else _PLUGIN


def spoken(text: str) -> str:
    """A text for a person, with compose's commands so that they can be pasted."""
    words = " ".join(_PLUGIN)
    if words not in text or command() == _PLUGIN:
        return text
    (program,) = command()
    below = os.path.relpath(program)
    return text.replace(words, shlex.quote(program if below.startswith("..") else below))
