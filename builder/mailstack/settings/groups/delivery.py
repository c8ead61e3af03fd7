"""Which addresses exist, and where their mail goes."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from mailstack.settings.groups.kinds import TOKENS, Group
from mailstack.values import mail, servers
from mailstack.values.mail import Mailbox


class Delivery(Group):
    delivery: Annotated[servers.NextHop | None, BeforeValidator(servers.delivery)] = Field(
        default=None,
        description="Where mail for the domains goes: lmtp:HOST:PORT or smtp:HOST:PORT for a mailbox server that "
        "you have. Not set, or 'maildir': the volume 'mail', as <domain>/<user>/Maildir, owned by uid and gid 5000. "
        "HOST is a name, an IPv4 address, or a service of compose.override.yaml.",
        examples=["lmtp:dovecot:24"],
    )
    mailboxes: Annotated[tuple[Mailbox, ...], *TOKENS] = Field(
        default=(),
        description="The addresses that exist; all others are refused. With an lmtp: or smtp: delivery it may stay "
        "empty: then that server is asked about each address.",
        examples=["user@example.com,info@example.net"],
    )
    aliases: Annotated[tuple[Annotated[mail.Alias, BeforeValidator(mail.alias)], ...], *TOKENS] = Field(
        default=(),
        description="Addresses whose mail goes to another address, as ADDRESS=TARGET.",
        examples=["sales@example.com=user@example.com"],
    )
    postmaster: Mailbox | None = Field(
        default=None,
        description="Who gets mail for postmaster and abuse of every domain (RFC 2142) and of the host name, unless "
        "these are listed themselves. Not set: the first mailbox.",
        examples=["admin@example.com"],
    )
