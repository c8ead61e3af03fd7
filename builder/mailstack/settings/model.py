"""Settings: what a site says about itself, each value by itself.

The environment is a parameter and never read inside. Descriptions and examples are the source of env.example and of
the table in README.md (reference.py); checks.py sees whether the values go together; environment.py turns what is
wrong into text.
"""

import ipaddress
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from mailstack.values import dnssec, mail, network, packages, servers, tokens
from mailstack.values.dnssec import TrustAnchor
from mailstack.values.mail import DomainName, Mailbox, Selector
from mailstack.values.spf import SpfRecord

PREFIX = "MAILSTACK_"

MAX_KEY_BITS = 4096
# RFC 5321 section 4.5.3.1.7: everybody takes this much.
MIN_MESSAGE_SIZE = 64 * 1024
# No more than a guard against a slip: a message is held on the queue's disk.
MAX_MESSAGE_SIZE = 1024**4
MAX_AGE = 3650
# RFC 5321 section 4.5.4.1: senders try for four or five days.
MAX_WAIT = 96
# Always trusted: the postfix container itself. Everything else is the site's choice.
LOOPBACK: tuple[network.Network, ...] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))

_Tokens = (BeforeValidator(tokens.split_list),)
_CommaTokens = (BeforeValidator(tokens.split_commas),)
_Port = Annotated[int, BeforeValidator(tokens.whole_number(0, servers.MAX_PORT, "a port"))]

# What the host name has besides the domains' mailboxes: RFC 2142, and root's own mail.
HOST_ROLES = ("postmaster", "abuse", "root")

SpfAction = Literal["tag", "reject-early"]
SpfFailAction = Literal["reject", "tag", "reject-early"]


def variable(name: str) -> str:
    """The variable of a setting."""
    return PREFIX + name.upper()


def example(name: str) -> str:
    """How a setting may be written."""
    return str((Settings.model_fields[name].examples or [""])[0])


def _unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(values))


_SkippedNetworks = Annotated[
    tuple[Annotated[network.Network, BeforeValidator(network.narrow_network("would leave nobody to be judged"))], ...],
    *_Tokens,
    AfterValidator(_unique),
]


class Settings(BaseSettings):
    """One site. A field FOO is the variable MAILSTACK_FOO; the order is the order of env.example."""

    # Values are text and nothing else: none is decoded as JSON.
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", enable_decoding=False, validate_default=False
    )

    hostname: Annotated[DomainName, AfterValidator(mail.public_name)] = Field(
        description="The appliance's own name: HELO, banner, MX target, Authentication-Results. It must resolve to "
        "this host, and the address must resolve back to it (PTR).",
        examples=["mail.example.com"],
    )
    domains: Annotated[tuple[DomainName, ...], *_Tokens, AfterValidator(_unique), Field(min_length=1)] = Field(
        description="The mail domains. The first one holds the shared DKIM key and the shared DMARC record.",
        examples=["example.com,example.net"],
    )
    public_addresses: Annotated[
        tuple[Annotated[ipaddress.IPv4Address, BeforeValidator(network.public_address)], ...],
        *_Tokens,
        AfterValidator(_unique),
    ] = Field(
        default=(),
        description="The IPv4 addresses that other servers see when this host sends. With them the printed records "
        "hold the host's A record, and SPF names addresses (no look-ups) in place of 'mx'.",
        examples=["192.0.2.25"],
    )

    delivery: Annotated[servers.NextHop | None, BeforeValidator(servers.delivery)] = Field(
        default=None,
        description="Where mail for the domains goes: lmtp:HOST:PORT or smtp:HOST:PORT for a mailbox server that "
        "you have. Not set, or 'maildir': the volume 'mail', as <domain>/<user>/Maildir, owned by uid and gid 5000. "
        "HOST is a name, an IPv4 address, or a service of compose.override.yaml.",
        examples=["lmtp:dovecot:24"],
    )
    mailboxes: Annotated[tuple[Mailbox, ...], *_Tokens, AfterValidator(_unique)] = Field(
        default=(),
        description="The addresses that exist; all others are refused. With an lmtp: or smtp: delivery it may stay "
        "empty: then that server is asked about each address.",
        examples=["user@example.com,info@example.net"],
    )
    aliases: Annotated[
        tuple[Annotated[mail.Alias, BeforeValidator(mail.alias)], ...], *_Tokens, AfterValidator(_unique)
    ] = Field(
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

    dkim_selector: Selector = Field(
        default="default", description="The DKIM selector: the key record's name.", examples=["s2026"]
    )
    dkim_key_bits: Annotated[
        int, BeforeValidator(tokens.whole_number(mail.MIN_KEY_BITS, MAX_KEY_BITS, "a usable key length"))
    ] = Field(
        default=mail.GOOD_KEY_BITS,
        description="The length in bits of RSA keys that are made. At least 1024; less than 2048 is warned about.",
        examples=["4096"],
    )
    dkim_keys: Literal["shared", "per-domain"] = Field(
        default="shared",
        description="'shared': one key, the other domains' key records are CNAMEs to the first domain's. "
        "'per-domain': each has a key of its own.",
        examples=["per-domain"],
    )
    sign_subdomains: Annotated[bool, BeforeValidator(tokens.boolean)] = Field(
        default=True,
        description="Sign mail from sub-domains of a domain as well, with the domain's own d=.",
        examples=["false"],
    )
    trusted_networks: Annotated[
        tuple[
            Annotated[network.Network, BeforeValidator(network.narrow_network("would make this host an open relay"))],
            ...,
        ],
        *_Tokens,
        AfterValidator(_unique),
    ] = Field(
        default=(),
        description="Networks whose hosts may send through this one without a password: their mail is relayed and "
        "signed, and never judged. The postfix container's own loopback always belongs to it, the host's does not.",
        examples=["192.0.2.0/28"],
    )

    spf_qualifier: Literal["~", "-", "?"] = Field(
        default="~",
        description="How the published SPF records end: '~' softfail, '-' fail, '?' neutral (RFC 7208 section 4.6.2).",
        examples=["-"],
    )
    spf_record: SpfRecord | None = Field(
        default=None,
        description="The whole SPF record of the domains, in place of the generated one.",
        examples=["v=spf1 mx include:_spf.example.net -all"],
    )
    spf_fail: SpfFailAction = Field(
        default="reject",
        description="Mail whose SPF result is fail: 'reject' (refused after DATA, unless DKIM shows that the author's "
        "domain sent it), 'tag' (delivered with the result), or 'reject-early' (refused at RCPT, before DKIM is known; "
        "forwarded mail suffers).",
        examples=["tag"],
    )
    spf_softfail: SpfAction = Field(
        default="tag", description="The same for softfail: 'tag' or 'reject-early'.", examples=["reject-early"]
    )
    spf_permerror: SpfAction = Field(
        default="tag",
        description="The same for permerror, a broken record: 'tag' or 'reject-early'.",
        examples=["reject-early"],
    )
    spf_temperror: Literal["defer", "defer-early", "tag"] = Field(
        default="defer",
        description="When DNS does not answer for an SPF record: 'defer' (the sender retries, where the result could "
        "matter once DKIM is known), 'defer-early' (at RCPT, before DKIM is known) or 'tag'.",
        examples=["tag"],
    )
    spf_skip_networks: _SkippedNetworks = Field(
        default=(),
        description="Relays that hand on other people's mail (a backup MX, a forwarder): their mail is not judged by "
        "SPF. This grants nothing else; they may not relay.",
        examples=["192.0.2.53"],
    )
    spf_skip_domains: Annotated[tuple[DomainName, ...], *_Tokens, AfterValidator(_unique)] = Field(
        default=(),
        description="The same by domain: mail from hosts listed in this domain's SPF record is exempt from the SPF "
        "check.",
        examples=["forwarder.example.net"],
    )

    dmarc_policy: Literal["none", "quarantine", "reject"] = Field(
        default="none", description="The published DMARC policy (RFC 9989).", examples=["reject"]
    )
    dmarc_report_addresses: Annotated[tuple[Mailbox, ...], *_Tokens, AfterValidator(_unique)] = Field(
        default=(),
        description="Where other servers send aggregate reports (rua).",
        examples=["dmarc@example.com"],
    )

    dmarc_action: Literal["follow", "reject", "mark"] = Field(
        default="follow",
        description="Mail from outside that fails DMARC: 'follow' (what the author's domain publishes, by RFC 9989 "
        "section 7.4: 'reject' counts as 'quarantine' where SPF or DKIM passes for another domain, as for mailing "
        "lists), 'reject' (refused then, too) or 'mark' (delivered with the result).",
        examples=["reject"],
    )
    dmarc_skip_networks: _SkippedNetworks = Field(
        default=(),
        description="Trusted forwarders and mailing lists: what they hand on is delivered although it fails DMARC. "
        "This grants nothing else.",
        examples=["192.0.2.54"],
    )
    dmarc_skip_domains: Annotated[tuple[DomainName, ...], *_Tokens, AfterValidator(_unique)] = Field(
        default=(),
        description="The same by domain, where SPF or DKIM shows that the mail comes from it or a name below it.",
        examples=["lists.example.net"],
    )

    dns_wait_hours: Annotated[int, BeforeValidator(tokens.whole_number(0, MAX_WAIT, "a number of hours"))] = Field(
        default=4,
        description="How many hours mail from outside waits at most (451) while DNS does not answer for what decides; "
        "0: it does not wait.",
        examples=["24"],
    )
    dns_wait_action: Literal["quarantine", "reject"] = Field(
        default="quarantine",
        description="What happens to it then: 'quarantine' (delivered, with the reason in X-Mailstack-Quarantine) or "
        "'reject'.",
        examples=["reject"],
    )

    unknown_sender_domain: Literal["defer", "reject", "accept"] = Field(
        default="defer",
        description="Mail from outside whose MAIL FROM domain has neither MX nor address, so that nobody can be "
        "answered: 'defer' (450, the sender retries), 'reject' (550) or 'accept'.",
        examples=["reject"],
    )

    local_sender: Literal["aligned", "envelope", "off"] = Field(
        default="aligned",
        description="Which mail from outside uses our domains without leave: 'aligned' (in the envelope sender or in "
        "From, and no SPF or DKIM pass shows that it may), 'envelope' (in the envelope sender, whatever the results) "
        "or 'off' (none).",
        examples=["envelope"],
    )
    local_sender_action: Literal["discard", "reject"] = Field(
        default="discard",
        description="What happens to mail that uses one in the envelope sender while SPF and DKIM pass for no domain: "
        "'discard' (accepted and dropped, since a bounce would go to the person whose address was used) or 'reject'. "
        "Other such mail is refused, or quarantined where SPF or DKIM passes for another domain.",
        examples=["reject"],
    )
    milter_default_action: Literal["tempfail", "accept"] = Field(
        default="tempfail",
        description="What happens while OpenDKIM or an extra milter is down: 'tempfail' (mail waits) or 'accept' (mail "
        "leaves unsigned, and comes in judged without it). While dmarc is down mail waits in any case.",
        examples=["accept"],
    )

    extra_milters: Annotated[
        tuple[Annotated[str, BeforeValidator(servers.milter)], ...], *_Tokens, AfterValidator(_unique)
    ] = Field(
        default=(),
        description="Milters of your own (rspamd, ClamAV), unix:PATH from Postfix's queue directory or inet:HOST:PORT, "
        "where HOST may be a service of compose.override.yaml. "
        "Mail from outside reaches them after DMARC has judged it, mail from inside before it is signed.",
        examples=["unix:rspamd/milter.sock"],
    )
    relay_host: Annotated[servers.HostPort | None, BeforeValidator(servers.server)] = Field(
        default=None,
        description="Send everything to this server, HOST or HOST:PORT, in place of the recipients' MX. It must take "
        "mail from this host's address: a log-in, and TLS from the start (port 465), are not supported yet.",
        examples=["smtp.example.net:25"],
    )
    message_size: Annotated[int, BeforeValidator(tokens.byte_size(MIN_MESSAGE_SIZE, MAX_MESSAGE_SIZE))] = Field(
        default=50 * 1024 * 1024,
        description="The largest message, with its MIME encoding; bytes, or with a unit (kB, MB, KiB, MiB).",
        examples=["25MiB"],
    )
    publish_addresses: Annotated[
        tuple[Annotated[ipaddress.IPv4Address, BeforeValidator(network.ipv4_address)], ...],
        *_Tokens,
        AfterValidator(_unique),
    ] = Field(
        default=(ipaddress.IPv4Address(0),),
        description="The host's IPv4 addresses to listen on; empty: nothing is published. IPv4 only, because behind "
        "the engine's IPv6 hand-over every client would look like the bridge's gateway. One that is in "
        "PUBLIC_ADDRESSES as well is also the one by which mail leaves.",
        examples=["192.0.2.25"],
    )
    port_smtp: _Port = Field(
        default=25, description="The host's port for mail from outside; 0: not published.", examples=["2525"]
    )
    port_submission: _Port = Field(
        default=587,
        description="The host's port for submission, published where TRUSTED_NETWORKS has somebody who may use it; 0: "
        "never.",
        examples=["0"],
    )

    resolver_forwarders: Annotated[
        tuple[Annotated[servers.Forwarder, BeforeValidator(servers.forwarder)], ...], *_Tokens, AfterValidator(_unique)
    ] = Field(
        default=(),
        description="Resolvers to ask, ADDRESS or ADDRESS@PORT; they must pass DNSSEC on. Empty: ask the root servers "
        "and everyone below them.",
        examples=["192.0.2.53,192.0.2.54@5353"],
    )
    resolver_trust_anchors: Annotated[tuple[TrustAnchor, ...], *_CommaTokens] = Field(
        default=(),
        description="DNSSEC trust anchors in place of the Internet's root keys, which come with the image: DS or "
        "DNSKEY records, commas between. For the root write all of its keys, the next one included.",
        examples=[",".join(dnssec.ROOT_ANCHORS)],
    )
    subnet: Annotated[ipaddress.IPv4Network, BeforeValidator(network.subnet)] = Field(
        default=ipaddress.IPv4Network("172.30.253.0/25"),
        description="Private IPv4 addresses for the networks of the containers, at least a /27. With a /27 there is no "
        "room for containers of your own on the network 'inner'.",
        examples=["10.99.0.0/27"],
    )
    base_image: Annotated[str, AfterValidator(packages.image)] = Field(
        default="debian:trixie-slim",
        description="The Debian 13 image that all images are built from; 'mailstack base' makes it where there is no "
        "registry.",
        examples=["registry.example.com/debian:trixie-slim"],
    )
    apt_mirror: Annotated[str | None, BeforeValidator(packages.url)] = Field(
        default=None,
        description="Where builds get Debian's packages; security updates come from the same URL with '-security'. "
        "Not set: what the base image names.",
        examples=["http://mirror.example.com/debian"],
    )
    apt_snapshot: Annotated[str | None, BeforeValidator(packages.snapshot)] = Field(
        default=None,
        description="A moment, such as 20261101T000000Z. With it the mirror is an archive of snapshots, and builds get "
        "the packages of that moment from MIRROR/MOMENT: the same ones each time.",
        examples=["20261101T000000Z"],
    )
    build_proxy: Annotated[str | None, BeforeValidator(packages.url)] = Field(
        default=None,
        description="The HTTP proxy through which builds get Debian's packages.",
        examples=["http://192.0.2.80:3142"],
    )
    image_max_age: Annotated[int, BeforeValidator(tokens.whole_number(1, MAX_AGE, "a number of days"))] = Field(
        default=30,
        description="The age of an image, in days, from which on a build warns that it lacks security updates.",
        examples=["7"],
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What environment.py has gathered, and never the process's own environment."""
        return (init_settings,)


def implied_aliases(settings: Settings) -> tuple[mail.Alias, ...]:
    """The aliases that must exist beside those of the site (RFC 2142; root writes as root@hostname).

    With a mailbox server behind us and no list of its addresses, postmaster@domain is that server's business.
    """
    target = settings.postmaster or next(iter(settings.mailboxes), f"postmaster@{settings.domains[0]}")
    taken = {*settings.mailboxes, *(alias.address for alias in settings.aliases), target}
    wanted = [f"{role}@{settings.hostname}" for role in HOST_ROLES]
    if settings.mailboxes or settings.postmaster:
        wanted += [f"{role}@{domain}" for domain in settings.domains for role in ("postmaster", "abuse")]
    return tuple(mail.Alias(address, target) for address in dict.fromkeys(wanted) if address not in taken)
