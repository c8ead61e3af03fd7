"""Lines of a service's log, on standard output."""

import asyncio
import sys

# How long a line may wait for others, in seconds. A write for each costs about as much as what it tells of, since it
# wakes up who reads the log.
_WAIT = 0.05


class Lines:
    """Those that come with most messages are written some at a time, the others at once."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None

    def write(self, line: str, *, soon: bool = False) -> None:
        """Write a line, behind those before it. One that is written soon is lost if the process is killed meanwhile."""
        sys.stdout.write(f"{line}\n")
        if not soon:
            sys.stdout.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_WAIT, self._flush)

    def _flush(self) -> None:
        self._timer = None
        sys.stdout.flush()
