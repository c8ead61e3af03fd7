"""What is on a message's way through Postfix."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr

from mailstack.settings.groups.kinds import LINE_TOKENS, TOKENS, Group
from mailstack.values import servers, tokens

# RFC 5321 section 4.5.3.1.7: everybody takes this much.
MIN_MESSAGE_SIZE = 64 * 1024
# No more than a guard against a slip: a message is held on the queue's disk.
MAX_MESSAGE_SIZE = 1024**4


class Transport(Group):
    milter_default_action: Literal["tempfail", "accept"] = Field(
        default="tempfail",
        description="What happens while OpenDKIM or an extra milter is down: 'tempfail' (mail waits) or 'accept' (mail "
        "leaves unsigned, and comes in without that check). While dmarc is down, mail always waits.",
        examples=["accept"],
    )
    extra_milters: Annotated[tuple[Annotated[str, BeforeValidator(servers.milter)], ...], *TOKENS] = Field(
        default=(),
        description="Your own milters (rspamd, ClamAV): unix:PATH, relative to Postfix's queue directory, or "
        "inet:HOST:PORT, where HOST may be a service of compose.override.yaml. Mail from outside reaches them after "
        "the DMARC check, mail from inside before it is signed.",
        examples=["unix:rspamd/milter.sock"],
    )
    sasl: Annotated[str | None, BeforeValidator(servers.sasl)] = Field(
        default=None,
        description="The auth service of a Dovecot that you have: unix:PATH, relative to Postfix's queue directory, or "
        "inet:HOST:PORT, where HOST may be a service of compose.override.yaml. Users who log in, on ports 465 and 587 "
        "and only with TLS, may send from any address of the domains; their mail is signed, and never checked.",
        examples=["inet:dovecot:12345"],
    )
    relay_host: Annotated[servers.HostPort | None, BeforeValidator(servers.server)] = Field(
        default=None,
        description="Send all mail to this server, HOST or HOST:PORT, instead of the recipients' MX. On ports 465 and "
        "587, and with a login, TLS is required, and the certificate must be for HOST.",
        examples=["smtp.example.net:465"],
    )
    relay_user: Annotated[str | None, BeforeValidator(servers.user)] = Field(
        default=None, description="The user name for the login at RELAY_HOST.", examples=["user@example.com"]
    )
    relay_password: Annotated[SecretStr | None, BeforeValidator(servers.password)] = Field(
        default=None,
        description="The password for the login at RELAY_HOST. Better in a file of its own, by RELAY_PASSWORD_FILE.",
        examples=["correct horse battery staple"],
    )
    relay_hosts: Annotated[
        tuple[Annotated[servers.SenderRelay, BeforeValidator(servers.sender_relay)], ...], *TOKENS
    ] = Field(
        default=(),
        description="Send the mail of some sender domains to servers of their own, DOMAIN=HOST:PORT, instead of "
        "RELAY_HOST or the recipients' MX. TLS is as for RELAY_HOST.",
        examples=["example.net=smtp.provider.example:587"],
    )
    relay_logins: Annotated[
        tuple[Annotated[servers.SenderLogin, BeforeValidator(servers.sender_login)], ...], *LINE_TOKENS
    ] = Field(
        default=(),
        description="The logins at RELAY_HOSTS, DOMAIN=USER:PASSWORD, one on each line. Better in a file of their own, "
        "by RELAY_LOGINS_FILE.",
        examples=["example.net=user@example.net:correct horse battery staple"],
    )
    message_size: Annotated[int, BeforeValidator(tokens.byte_size(MIN_MESSAGE_SIZE, MAX_MESSAGE_SIZE))] = Field(
        default=50 * 1024 * 1024,
        description="The largest message, including its MIME encoding: bytes, or with a unit (kB, MB, KiB, MiB).",
        examples=["25MiB"],
    )
