"""The command's start."""

import gc
import os
import signal
from types import FrameType

from mailstack.errors import INTERRUPTED, StoppedError


def _stop(_number: int, _frame: FrameType | None) -> None:
    """Ctrl-C while modules are loaded, where an exception would be somebody else's to show."""
    os.write(2, f"error: {INTERRUPTED}\n".encode())
    os._exit(StoppedError.exit_code)


# Who starts a command in the background of a shell has SIGINT ignored.
_interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
if _interruptible:
    signal.signal(signal.SIGINT, _stop)
# What is imported stays: to look for garbage in it takes a sixth of a build that has nothing to do.
gc.disable()
from mailstack.cli import app  # noqa: E402

gc.freeze()
gc.enable()


def main() -> None:
    """Run the command line, which ends Ctrl-C itself."""
    if _interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    app.main()


if __name__ == "__main__":
    main()
