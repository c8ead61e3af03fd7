"""What is removed from the header of every message: fields that somebody might take for ours."""

from mailstack_auth.header import authres
from mailstack_auth.milter.message import Delete, Message

# What the mailbox side can file by; one that came with the mail is removed.
QUARANTINE = b"X-Mailstack-Quarantine"

# Final delivery writes it (RFC 5321 section 4.4).
RETURN_PATH = b"Return-Path"


def claims(message: Message, hostname: str, internal_id: str) -> tuple[list[bytes], list[Delete]]:
    """OpenDKIM's results; and what has to be removed: results that somebody might take for ours, and marks."""
    internal: list[bytes] = []
    removals: list[Delete] = []
    for one in authres.claims(message.fields):
        if one.of(internal_id):
            internal.append(one.results)
        elif not (one.disguised or one.of(hostname)):
            continue
        removals.append(Delete(authres.NAME, one.at))
    return internal, [*removals, *every(message, QUARANTINE, RETURN_PATH)]


def every(message: Message, *names_: bytes) -> list[Delete]:
    """Remove all fields of these names."""
    return [Delete(name, at + 1) for name in names_ for at in range(len(message.fields.named(name.lower())))]
