"""What can go wrong, as a person should read it: what happened, the usual cause, the next step.

Each class has the exit code that the command ends with (README, "Exit codes").
"""

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


def os_reason(error: OSError) -> str:
    """What the system said, with the remedy where its words hold none."""
    # link(2), the only call here with two paths: FAT and some network file systems have none.
    if error.filename2 and error.errno in {errno.EPERM, errno.ENOTSUP, errno.ENOSYS}:
        return f"{error.strerror}; the file system has no hard links: use a file system that has them, such as ext4"
    said = error.strerror or str(error)
    if error.errno is None or said != os.strerror(error.errno):
        # Words of ours, which hold the remedy.
        return said
    if error.errno in {errno.EACCES, errno.EPERM}:
        return said + _whose(error.filename)
    return said + _REMEDIES.get(error.errno, "")


_REMEDIES = {
    errno.ENOTDIR: "; a file has the name of a directory: move it away",
    errno.EEXIST: "; something else has this name: move it away",
    errno.EISDIR: "; a directory has the name of a file: move it away",
    errno.ENOSPC: "; make room on the disk",
    errno.EDQUOT: "; make room in the quota",
    errno.EROFS: "; use a directory that you can write to",
}


def _whose(name: object) -> str:
    """The remedy for what another user owns, such as secrets/ after one run as root; else nothing."""
    if not isinstance(name, str):
        return ""
    # The nearest that can be seen, then all around it that is the same user's, as far as the site goes.
    paths = [path for path in (Path(name), *Path(name).parents) if _owner(path) is not None]
    owner, here = _owner(paths[0]) if paths else None, Path.cwd()
    if owner in {None, os.geteuid()}:
        return ""
    path = paths[0]
    for one in paths:
        if one == here or not one.is_relative_to(here) or _owner(one) != owner:
            break
        path = one
    return f"; {path} belongs to user {owner}: work as that user, or run: sudo chown -R {os.geteuid()} {path}"


def _owner(path: Path) -> int | None:
    try:
        return path.stat().st_uid
    except OSError:
        return None


# Enough to recognise what was typed.
_MAX_SHOWN = 200


def shown(text: str) -> str:
    """What was typed, in quotes on one line, cut where it is long."""
    return repr(text) if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]!r}…"


class MailstackError(Exception):
    """Any fault that is reported as text, without a traceback."""

    exit_code = 1


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a setting: its variable, the token at fault, and the remedy."""

    variable: str
    token: str | None
    remedy: str

    def __str__(self) -> str:
        token = "" if self.token is None else f" {shown(self.token)}:"
        return f"{self.variable}:{token} {self.remedy}"


class SettingsError(MailstackError):
    """The settings are wrong; holds every fault that was found, not only the first."""

    exit_code = 2

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class DkimKeyError(MailstackError):
    """A DKIM private key cannot be used; nothing may be signed, so nothing may start."""

    exit_code = 3


class SecretError(MailstackError):
    """Another secret of the site cannot be used."""

    exit_code = 3


class NotWellError(MailstackError):
    """A service does not run, is unhealthy, or runs what an earlier build wrote."""

    exit_code = 5


class DnsError(MailstackError):
    """DNS cannot be asked at all."""


class RecordFaultError(MailstackError):
    """Published records have faults."""

    exit_code = 6


class RecordWarningError(MailstackError):
    """Published records work, and something about them is probably not meant."""

    exit_code = 7


INTERRUPTED = "interrupted; no unfinished files remain. Run the command again to continue"


class StoppedError(MailstackError):
    """A person pressed Ctrl-C; the exit code is that of a shell for SIGINT."""

    exit_code = 130

    def __init__(self) -> None:
        super().__init__(INTERRUPTED)


class EngineError(MailstackError):
    """The container engine, an image build or a compose command failed."""

    exit_code = 4
