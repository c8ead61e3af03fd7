"""A service's log, on standard output."""

import asyncio
import sys

# How long a line may wait for others, in seconds. A write for each costs about as much as what it tells of, since it
# wakes up who reads the log.
_WAIT = 0.05


class Log:
    """Lines that may wait are written some at a time, the others at once and behind them."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None
        self._failed = False

    def write(self, line: str, *, soon: bool = False) -> None:
        """Write a line. One that is written soon is lost if the process is killed meanwhile.

        Raises OSError when it cannot be written, or when those before it could not.
        """
        sys.stdout.write(f"{line}\n")
        if not soon or self._failed:
            sys.stdout.flush()
            self._failed = False
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_WAIT, self._flush)

    def _flush(self) -> None:
        self._timer = None
        try:
            sys.stdout.flush()
        except OSError:
            self._failed = True


def event(program: str, text: str) -> None:
    """One event of a program, one line, at once."""
    sys.stdout.write(f"{program}: {text}\n")
    sys.stdout.flush()
