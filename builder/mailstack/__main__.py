"""The command's start."""

import gc

# What is imported stays: to look for garbage in it takes a sixth of a build that has nothing to do.
gc.disable()
from mailstack.cli import main  # noqa: E402

gc.freeze()
gc.enable()

if __name__ == "__main__":
    main()
