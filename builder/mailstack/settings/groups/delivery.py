"""Which addresses exist, and where their mail goes."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from mailstack.settings.groups.kinds import TOKENS, Group
from mailstack.values import mail, servers, tokens
from mailstack.values.mail import Mailbox


class Delivery(Group):
    delivery: Annotated[tuple[Annotated[servers.Route, BeforeValidator(servers.route)], ...], *TOKENS] = Field(
        default=(),
        description="Where mail for the domains goes: lmtp:HOST:PORT or smtp:HOST:PORT of a mailbox server that you "
        "have. HOST is a name, an IPv4 address, or a service of compose.override.yaml. Not set, or 'maildir': the "
        "volume 'mail', as <domain>/<user>/Maildir, owned by uid and gid 5000. DOMAIN=lmtp:HOST:PORT and so on are for "
        "one domain, and the value without a domain is for all others.",
        examples=["lmtp:dovecot:24,example.net=maildir"],
    )
    mailboxes: Annotated[tuple[Mailbox, ...], *TOKENS] = Field(
        default=(),
        description="The addresses that exist; mail to all others is rejected. A domain with an lmtp: or smtp: "
        "delivery needs no entry here: Postfix then asks that server about each address.",
        examples=["user@example.com,info@example.net"],
    )
    aliases: Annotated[tuple[Annotated[mail.Alias, BeforeValidator(mail.alias)], ...], *TOKENS] = Field(
        default=(),
        description="Addresses whose mail goes to other addresses, here or on other servers: ADDRESS=TARGET, once for "
        "each target. To keep a copy in a mailbox, also write it as a target of its own address. '*@DOMAIN=TARGET' is "
        "for all addresses of a domain that are neither a mailbox nor an alias.",
        examples=["sales@example.com=user@example.com,sales@example.com=friend@example.org"],
    )
    srs: Annotated[bool, BeforeValidator(tokens.boolean)] = Field(
        default=True,
        description="Mail that leaves by an alias to another server gets an envelope sender of the host name (SRS), "
        "so that SPF passes there, and bounces find the original sender. 'false': it keeps its envelope sender.",
        examples=["false"],
    )
    postmaster: Mailbox | None = Field(
        default=None,
        description="The mailbox for postmaster and abuse of every domain (RFC 2142) and of the host name, unless "
        "these addresses are listed themselves. Not set: the first mailbox; a mailbox server that is asked about "
        "addresses is asked about these too.",
        examples=["admin@example.com"],
    )
