"""Settings: what a site says about itself, validated.

The environment is a parameter and never read inside. Descriptions and examples are the source of env.example and of
the table in README.md (reference.py); environment.py turns what is wrong into text.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from mailstack import fields
from mailstack.fields import DomainName, Mailbox, Selector, SpfRecord, TrustAnchor

PREFIX = "MAILSTACK_"

MAX_KEY_BITS = 4096
# RFC 5321 section 4.5.3.1.7: everybody takes this much.
MIN_MESSAGE_SIZE = 64 * 1024
MAX_HOSTNAME = 64  # hostname(7)
# Wider than this is no network of one's own.
MIN_PREFIX = {4: 8, 6: 7}
# Three networks are cut out of it, a quarter each (stack.py); eight addresses are enough for one.
MAX_SUBNET_PREFIX = 27
_PRIVATE_IPV4 = [ipaddress.IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")]
_PRIVATE_RANGES: list[fields.Network] = [*_PRIVATE_IPV4, ipaddress.IPv6Network("fc00::/7")]
# Always trusted: the host itself. Everything else is the site's choice.
LOOPBACK: tuple[fields.Network, ...] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))

_Tokens = (NoDecode, BeforeValidator(fields.split_list))
_CommaTokens = (NoDecode, BeforeValidator(fields.split_commas))
_Network = Annotated[fields.Network, BeforeValidator(fields.network)]
_Port = Annotated[int, Field(ge=0, le=fields.MAX_PORT)]

# What the host name has besides the domains' mailboxes: RFC 2142, and root's own mail.
HOST_ROLES = ("postmaster", "abuse", "root")

SpfAction = Literal["tag", "reject-early"]


def _unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(values))


def _end(address: str, targets: Mapping[str, str]) -> str | None:
    """Where an alias leads in the end; None in a circle."""
    seen = set()
    while address in targets and address not in seen:
        seen.add(address)
        address = targets[address]
    return None if address in seen else address


class FaultyTokensError(ValueError):
    """Several tokens of one variable are wrong, each with its own remedy."""

    def __init__(self, faults: list[tuple[str, str]]) -> None:
        self.faults = faults
        super().__init__("; ".join(f"{token}: {remedy}" for token, remedy in faults))


class Settings(BaseSettings):
    """One site. A field FOO is the variable MAILSTACK_FOO; the order is the order of env.example."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", str_strip_whitespace=True)

    hostname: DomainName = Field(
        description="The appliance's own name: HELO, banner, MX target, Authentication-Results. It must resolve to "
        "this host, and the address must resolve back to it (PTR).",
        examples=["mail.example.com"],
    )
    domains: Annotated[tuple[DomainName, ...], *_Tokens, AfterValidator(_unique), Field(min_length=1)] = Field(
        description="The mail domains. The first one holds the shared DKIM key and the shared DMARC record.",
        examples=["example.com,example.net"],
    )
    public_addresses: Annotated[
        tuple[Annotated[fields.Address, BeforeValidator(fields.address)], ...], *_Tokens, AfterValidator(_unique)
    ] = Field(
        default=(),
        description="The addresses that other servers see when this host sends. With them the printed records hold "
        "the host's A record, and SPF names addresses (no look-ups) in place of 'mx'.",
        examples=["192.0.2.25,2001:db8::25"],
    )

    delivery: Annotated[fields.NextHop | None, BeforeValidator(fields.delivery)] = Field(
        default=None,
        description="Where mail for the domains goes: lmtp:HOST:PORT or smtp:HOST:PORT for a mailbox server that is "
        "there already. Not set, or 'maildir': the volume 'mail', as <domain>/<user>/Maildir, owned by uid and gid "
        "5000.",
        examples=["lmtp:dovecot.example.com:24"],
    )
    mailboxes: Annotated[tuple[Mailbox, ...], *_Tokens, AfterValidator(_unique)] = Field(
        default=(),
        description="The addresses that exist; all others are refused. With an lmtp: or smtp: delivery it may stay "
        "empty: then that server is asked about each address.",
        examples=["user@example.com,info@example.net"],
    )
    aliases: Annotated[
        tuple[Annotated[fields.Alias, BeforeValidator(fields.alias)], ...], *_Tokens, AfterValidator(_unique)
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
    dkim_key_bits: Annotated[int, Field(ge=fields.MIN_KEY_BITS, le=MAX_KEY_BITS)] = Field(
        default=fields.GOOD_KEY_BITS,
        description="The length in bits of RSA keys that are made. At least 1024; less than 2048 is warned about.",
        examples=["4096"],
    )
    dkim_keys: Literal["shared", "per-domain"] = Field(
        default="shared",
        description="'shared': one key, the other domains' key records are CNAMEs to the first domain's. "
        "'per-domain': each has a key of its own.",
        examples=["per-domain"],
    )
    sign_subdomains: bool = Field(
        default=True,
        description="Sign mail from sub-domains of a domain as well, with the domain's own d=.",
        examples=["false"],
    )
    trusted_networks: Annotated[tuple[_Network, ...], *_Tokens, AfterValidator(_unique)] = Field(
        default=(),
        description="Networks whose hosts may send through this one without a password: their mail is relayed and "
        "signed, and never judged. Loopback always belongs to it.",
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
    spf_fail: SpfAction = Field(
        default="tag",
        description="Mail whose SPF result is fail: 'tag' (delivered with Received-SPF) or 'reject-early' (refused "
        "at RCPT, before DKIM is known; forwarded mail suffers).",
        examples=["reject-early"],
    )
    spf_softfail: SpfAction = Field(default="tag", description="The same for softfail.", examples=["reject-early"])
    spf_permerror: SpfAction = Field(
        default="tag", description="The same for permerror, a broken record.", examples=["reject-early"]
    )
    spf_temperror: Literal["defer", "tag"] = Field(
        default="defer",
        description="When DNS gives no answer: 'defer' (the sender tries again) or 'tag'.",
        examples=["tag"],
    )
    spf_skip_networks: Annotated[tuple[_Network, ...], *_Tokens, AfterValidator(_unique)] = Field(
        default=(),
        description="Relays that hand on other people's mail (a backup MX, a forwarder): their mail is not judged by "
        "SPF. This grants nothing else; they may not relay.",
        examples=["192.0.2.53"],
    )
    spf_skip_domains: Annotated[tuple[DomainName, ...], *_Tokens, AfterValidator(_unique)] = Field(
        default=(),
        description="The same by domain: what hosts send that a domain's own SPF record names is not judged, unless it "
        "passes anyway.",
        examples=["forwarder.example.net"],
    )

    dmarc_policy: Literal["none", "quarantine", "reject"] = Field(
        default="none", description="The published DMARC policy (RFC 9989).", examples=["reject"]
    )
    dmarc_report_addresses: Annotated[tuple[Mailbox, ...], *_Tokens, AfterValidator(_unique)] = Field(
        default=(),
        description="Where others send aggregate reports (rua).",
        examples=["dmarc@example.com"],
    )

    local_sender: Literal["discard", "reject", "off"] = Field(
        default="discard",
        description="Mail from outside whose envelope sender is one of our domains: 'discard' (accepted and dropped, "
        "since a bounce would go to the person whose name was used), 'reject', or 'off'.",
        examples=["reject"],
    )
    milter_default_action: Literal["tempfail", "accept"] = Field(
        default="tempfail",
        description="What happens while OpenDKIM is down: 'tempfail' (mail waits) or 'accept' (mail leaves unsigned "
        "and comes in unchecked).",
        examples=["accept"],
    )

    relay_host: Annotated[fields.HostPort | None, BeforeValidator(fields.optional_host_port)] = Field(
        default=None,
        description="Send everything to this server, HOST or HOST:PORT, in place of the recipients' MX.",
        examples=["smtp.example.net:25"],
    )
    message_size: Annotated[ByteSize, Field(ge=MIN_MESSAGE_SIZE)] = Field(
        default=ByteSize(50 * 1024 * 1024),
        description="The largest message, with its MIME encoding; bytes, or with a unit (kB, MB, KiB, MiB).",
        examples=["25MiB"],
    )
    publish_addresses: Annotated[
        tuple[Annotated[ipaddress.IPv4Address, BeforeValidator(fields.ipv4_address)], ...],
        *_Tokens,
        AfterValidator(_unique),
    ] = Field(
        default=(ipaddress.IPv4Address(0),),
        description="The host's IPv4 addresses to listen on; empty: nothing is published. IPv4 only, because behind "
        "the engine's IPv6 hand-over every client would look like the bridge's gateway.",
        examples=["192.0.2.25"],
    )
    port_smtp: _Port = Field(
        default=25, description="The host's port for mail from outside; 0: not published.", examples=["2525"]
    )
    port_submission: _Port = Field(
        default=587,
        description="The host's port for submission, which serves trusted networks only; 0: not published.",
        examples=["0"],
    )

    resolver_forwarders: Annotated[
        tuple[Annotated[fields.HostPort, BeforeValidator(fields.forwarder)], ...], *_Tokens, AfterValidator(_unique)
    ] = Field(
        default=(),
        description="Resolvers to ask, ADDRESS or ADDRESS@PORT; they must pass DNSSEC on. Empty: ask the root servers "
        "and everyone below them.",
        examples=["192.0.2.53,192.0.2.54@5353"],
    )
    resolver_trust_anchors: Annotated[tuple[TrustAnchor, ...], *_CommaTokens] = Field(
        default=(),
        description="DNSSEC trust anchors in place of the Internet's root keys: DS or DNSKEY records, commas between.",
        examples=[". DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D"],
    )
    subnet: Annotated[ipaddress.IPv4Network, BeforeValidator(fields.ipv4_network)] = Field(
        default=ipaddress.IPv4Network("172.30.253.0/27"),
        description="Private IPv4 addresses for the networks of the containers, at least a /27.",
        examples=["10.99.0.0/27"],
    )
    base_image: Annotated[str, Field(pattern=r"^[a-z0-9][a-zA-Z0-9._/:@-]*$")] = Field(
        default="debian:trixie-slim",
        description="The Debian 13 image that all images are built from.",
        examples=["registry.example.com/debian:trixie-slim"],
    )

    @field_validator("hostname")
    @classmethod
    def _not_localhost(cls, value: str) -> str:
        if value.endswith((".localhost", ".localdomain", ".local", ".invalid")):
            raise ValueError("is a name that other servers cannot look up; write the name in the host's PTR record")
        if len(value) > MAX_HOSTNAME:
            raise ValueError(f"is longer than the {MAX_HOSTNAME} characters of a Linux host name")
        return value

    @field_validator("mailboxes")
    @classmethod
    def _mailboxes_are_ours(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        domains = info.data.get("domains")
        if domains is not None:
            _collect(
                (one, f"is outside the domains; add {one.rpartition('@')[2]} to {PREFIX}DOMAINS or remove it")
                for one in value
                if one.rpartition("@")[2] not in domains
            )
        if info.data.get("delivery", ...) is None and not value:
            raise ValueError("is empty, so no mail could be delivered; list at least one mailbox of a domain")
        return value

    @field_validator("aliases")
    @classmethod
    def _aliases_lead_somewhere(cls, value: tuple[fields.Alias, ...], info: ValidationInfo) -> tuple[fields.Alias, ...]:
        hostname, domains, mailboxes = (info.data.get(name) for name in ("hostname", "domains", "mailboxes"))
        if hostname is None or domains is None or mailboxes is None:
            return value
        targets = {one.address: one.target for one in value}
        listed = info.data.get("delivery", ...) is None or mailboxes
        faults = []
        for one in value:
            token = f"{one.address}={one.target}"
            end = _end(one.address, targets)
            if one.address.rpartition("@")[2] not in {*domains, hostname}:
                faults.append((token, f"is outside the domains; add its domain to {PREFIX}DOMAINS or remove it"))
            elif one.address in mailboxes:
                faults.append((token, f"is a mailbox as well; remove it here or from {PREFIX}MAILBOXES"))
            elif targets[one.address] != one.target:
                faults.append((token, f"is listed with the target {targets[one.address]} as well; keep one of the two"))
            elif end is None:
                faults.append((token, "leads to no mailbox, only in a circle; give one of the circle another target"))
            elif listed and end.rpartition("@")[2] in domains and end not in mailboxes:
                faults.append((token, f"leads to no mailbox; add {end} to {PREFIX}MAILBOXES"))
            elif end.rpartition("@")[2] == hostname not in domains and end.partition("@")[0] not in HOST_ROLES:
                faults.append((token, f"leads to no mailbox; the host name has {', '.join(HOST_ROLES)} only"))
        _collect(faults)
        return value

    @field_validator("postmaster")
    @classmethod
    def _postmaster_exists(cls, value: str | None, info: ValidationInfo) -> str | None:
        hostname, domains, mailboxes, aliases = (
            info.data.get(name) for name in ("hostname", "domains", "mailboxes", "aliases")
        )
        if value is None or hostname is None or domains is None or mailboxes is None or aliases is None:
            return value
        maildir = info.data.get("delivery", ...) is None
        known = {*mailboxes, *(one.address for one in aliases)}
        if value.rpartition("@")[2] in domains and (maildir or mailboxes) and value not in known:
            raise ValueError(f"is no mailbox; add it to {PREFIX}MAILBOXES")
        if value.rpartition("@")[2] == hostname not in domains and value not in known:
            raise ValueError("is at the host name, whose mail goes to this very address; write a mailbox of a domain")
        return value

    @field_validator("trusted_networks", "spf_skip_networks")
    @classmethod
    def _no_whole_world(cls, value: tuple[fields.Network, ...], info: ValidationInfo) -> tuple[fields.Network, ...]:
        trusted = info.field_name == "trusted_networks"
        effect = "would make this host an open relay" if trusted else "would leave nobody to be judged"
        _collect(
            (str(one), f"is a large part of the Internet and {effect}; list the senders' own networks")
            for one in value
            if one.prefixlen < MIN_PREFIX[one.version]
        )
        return value

    @field_validator("port_submission")
    @classmethod
    def _ports_differ(cls, value: int, info: ValidationInfo) -> int:
        if value and value == info.data.get("port_smtp"):
            raise ValueError(f"is {PREFIX}PORT_SMTP as well; choose another port, or 0 to publish none")
        return value

    @field_validator("delivery", "relay_host", "resolver_forwarders")
    @classmethod
    def _reached_by_ipv4(cls, value: Any, info: ValidationInfo) -> Any:  # noqa: ANN401
        hosts = value if isinstance(value, tuple) else [value.server if isinstance(value, fields.NextHop) else value]
        faults = []
        for one in hosts:
            if one is None:
                continue
            if ":" in one.host:
                remedy = "is an IPv6 address, and the containers' networks are IPv4 only; write an IPv4 address"
                faults.append((str(one), remedy))
            elif one.host.startswith(("127.", "0.")) or one.host == info.data.get("hostname"):
                faults.append((str(one), "is the container itself; write the address of another machine"))
        _collect(faults)
        return value

    @field_validator("subnet")
    @classmethod
    def _subnet_is_large_enough(cls, value: ipaddress.IPv4Network, info: ValidationInfo) -> ipaddress.IPv4Network:
        if value.prefixlen > MAX_SUBNET_PREFIX:
            raise ValueError(f"is too small; write a network of /{MAX_SUBNET_PREFIX} or larger")
        for one in (*LOOPBACK, *(info.data.get("trusted_networks") or ())):
            if one.overlaps(value):
                raise ValueError(
                    f"overlaps {one}, which is trusted; the engine shows clients under an address of its own there, "
                    "the gateway, so everybody could relay. Use another subnet, or list the senders' own networks in "
                    f"{PREFIX}TRUSTED_NETWORKS"
                )
        if not any(value.subnet_of(wide) for wide in _PRIVATE_IPV4):
            raise ValueError("is not private; take it from 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16 (RFC 1918)")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the mapping that load() was given, never the process's environment."""
        environment = init_settings()["environment"]
        return (_Environment(settings_cls, environment),)

    def warnings(self) -> list[str]:
        """What is allowed and probably not meant, as sentences."""
        found = []
        if self.dkim_key_bits < fields.GOOD_KEY_BITS:
            found.append(
                f"{PREFIX}DKIM_KEY_BITS: {self.dkim_key_bits} bits are weak; {fields.GOOD_KEY_BITS} is the usual length"
            )
        found += [
            f"{PREFIX}TRUSTED_NETWORKS: {one} is a whole private range; every container and every client that the "
            "engine shows under its gateway's address could relay through this host"
            for one in self.trusted_networks
            if any(one.overlaps(wide) and one.prefixlen <= wide.prefixlen for wide in _PRIVATE_RANGES)
        ]
        if self.relay_host and not self.spf_record:
            found.append(
                f"{PREFIX}RELAY_HOST: mail leaves from {self.relay_host.host}, which the printed SPF records do not "
                f"name; write the domains' record in {PREFIX}SPF_RECORD, with that server in it"
            )
        if self.milter_default_action == "accept":
            found.append(f"{PREFIX}MILTER_DEFAULT_ACTION: mail leaves unsigned while OpenDKIM is down")
        return found


class _Environment(EnvSettingsSource):
    """pydantic-settings' own reading of variables, from a mapping that is handed in."""

    def __init__(self, settings_cls: type[BaseSettings], environment: Mapping[str, str]) -> None:
        self._environment = environment
        super().__init__(settings_cls)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._environment.items()}


def _collect(faults: Iterable[tuple[str, str]]) -> None:
    found = list(faults)
    if found:
        raise FaultyTokensError(found)
