"""What each service may use of the host: a leak ends one service, which the engine starts again, and not the host."""

from dataclasses import dataclass

from mailstack.stack.model import Stack


@dataclass(frozen=True)
class Limits:
    """Memory in MiB, with what lies in the container's tmpfs; processes and threads together."""

    memory: int
    processes: int


def limits(stack: Stack) -> dict[str, Limits]:
    """The limits of each service, at least twice of what it was measured to use, or may use by limits of its own.

    Measured: anonymous and kernel memory in MB, with processes and threads; idle; with 100 sessions past RCPT on
    port 25 and 50 on port 587; and the most while messages of 50 MB, with 900 kB of header, and 100 at once came in.

    | service     | idle   | sessions | messages | room for                                            |
    | ----------- | ------ | -------- | -------- | --------------------------------------------------- |
    | postfix     | 8, 10  | 392, 310 | 351, 270 | all processes of both ports                         |
    | opendkim    | 3, 9   | 5, 9     | 25, 63   | a thread and a header for each message; its keys    |
    | policyd-spf | 25, 4  | 26, 4    | 26, 4    | 300 connections, with 60 MB                         |
    | dmarc       | 27, 4  | 27, 4    | 30, 4    | 2 MB of header for each message                     |
    | resolver    | 9, 3   | 9, 3     | 9, 3     | full caches, 24 MB by its own count                 |
    """
    return {
        "postfix": Limits(1536 + _tables(stack), 1024),
        "opendkim": Limits(512, 512),
        "policyd-spf": Limits(256, 64),
        "dmarc": Limits(512, 64),
        "resolver": Limits(256, 64),
    }


# Each process of Postfix that asks a table holds all of it (texthash, DATABASE_README), some 200 octets a row.
_ROW_OCTETS = 200
# smtpd, on both ports, and cleanup for each message that comes in (default_process_limit, postconf(5)).
_READERS = 300


def _tables(stack: Stack) -> int:
    """The memory that Postfix's tables need in MiB.

    A domain stands in two, and its postmaster and abuse in one; an address in one, beside that of its Junk.
    """
    addresses = len(stack.mailboxes) + len(stack.aliases)
    rows = 4 * len(stack.domains) + (2 if stack.judging.junk else 1) * addresses
    return rows * _ROW_OCTETS * _READERS // 2**20
