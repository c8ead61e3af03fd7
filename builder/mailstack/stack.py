"""Settings → Stack: every decision about a site, made once, as plain values that the templates print.

A Stack knows nothing of files or of compose; compose is one rendering of it.
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from mailstack.fields import Alias, junk_address
from mailstack.hosts import OWN_SERVICES, Address, HostPort, Network, NextHop, host_port, neighbours, project
from mailstack.keys.dkim import DkimKey
from mailstack.settings import LOOPBACK, Settings, implied_aliases

SERVICES = OWN_SERVICES

NETWORKS = ("edge", "lookup", "inner")

# The key files' directory in the opendkim container, a tmpfs.
KEY_DIRECTORY = "/run/opendkim/keys"

# The milter sockets as Postfix sees them from its chroot. Without dmarc nothing is judged, whatever the default action.
OPENDKIM = "unix:opendkim/opendkim.sock"
DMARC_OUTSIDE = "{ unix:dmarc/outside.sock, default_action=tempfail }"
DMARC_INSIDE = "{ unix:dmarc/inside.sock, default_action=tempfail }"
DMARC_SIGNED = "{ unix:dmarc/signed.sock, default_action=tempfail }"


@dataclass(frozen=True)
class Ids:
    """User and group ids, the same in every image: packages would give clashing ones, and volumes outlive images."""

    sockets: int = 900  # the group that may connect to the milter and policy sockets
    postfix: int = 901
    postdrop: int = 902
    opendkim: int = 903
    policyd_spf: int = 904
    resolver: int = 905
    dmarc: int = 907
    world: int = 906  # what stands in for the Internet when stacks are tried out
    vmail: int = 5000  # the mailboxes' owner, as Dovecot's documentation has it


IDS = Ids()


@dataclass(frozen=True)
class SigningRow:
    """Mail whose author domain is name (or below it, with a leading dot) is signed by the key."""

    name: str
    key: str


@dataclass(frozen=True)
class SigningKey:
    """A KeyTable row: the d= and s= of a signature, and which private key makes it."""

    domain: str
    key: DkimKey

    @property
    def file(self) -> str:
        return f"{KEY_DIRECTORY}/{self.key.name}.pem"


@dataclass(frozen=True)
class Subnet:
    """A network of the stack. On those without a way out the resolver's address is fixed; the others have a range."""

    cidr: ipaddress.IPv4Network
    gateway: ipaddress.IPv4Address
    resolver: ipaddress.IPv4Address
    others: ipaddress.IPv4Network


@dataclass(frozen=True)
class SpfActions:
    """What policyd-spf does with each result that is not harmless."""

    fail: str
    softfail: str
    permerror: str
    temperror: str
    # How long a temperror makes mail wait.
    hours: int
    unknown_sender_domain: str


@dataclass(frozen=True)
class Judging:
    """What the dmarc milter does about mail from outside."""

    dmarc: Literal["follow", "reject", "mark"]
    # "reject" and "defer" are its own part; the other values are policyd-spf's.
    spf_fail: str
    spf_temperror: str
    # None: local domains are not its business.
    local_sender: Literal["discard", "reject"] | None
    skip_networks: tuple[Network, ...]
    skip_domains: tuple[str, ...]
    # How long a message waits for DNS, and what happens to it then.
    dns_hours: int
    dns_action: Literal["quarantine", "reject"]
    # Whose mail leaves with a signature or not at all: these domains, and names below those.
    signed: tuple[str, ...]
    signed_below: tuple[str, ...]
    # Whether quarantined mail goes to the mailboxes' Junk.
    junk: bool


@dataclass(frozen=True)
class Packages:
    """What images are built from: a base image, and where Debian's packages come from (None: what the base names)."""

    base_image: str
    mirror: str | None = None
    snapshot: str | None = None
    proxy: str | None = None


@dataclass(frozen=True)
class Stack:
    project: str
    hostname: str
    domains: tuple[str, ...]
    public_addresses: tuple[Address, ...]
    next_hop: NextHop | None
    mailboxes: tuple[str, ...]
    aliases: tuple[Alias, ...]
    keys: tuple[DkimKey, ...]
    signing_keys: tuple[SigningKey, ...]
    signing_rows: tuple[SigningRow, ...]
    trusted_networks: tuple[Network, ...]
    spf_qualifier: str
    spf_record: str | None
    spf_actions: SpfActions
    spf_skip_networks: tuple[Network, ...]
    spf_skip_domains: tuple[str, ...]
    dmarc_policy: str
    dmarc_report_addresses: tuple[str, ...]
    judging: Judging
    # What becomes of mail with an envelope sender of ours, by Postfix's own table; None: not by that.
    local_envelope: Literal["discard", "reject"] | None
    # SHA-256 of the secret under which OpenDKIM tells dmarc what it finds.
    authserv_id_digest: str
    milter_default_action: Literal["tempfail", "accept"]
    extra_milters: tuple[str, ...]
    relay_host: HostPort | None
    message_size: int
    publish: tuple[str, ...]
    # The host's address by which connections leave; None: what the host's routes say.
    leaves_by: Address | None
    forwarders: tuple[HostPort, ...]
    trust_anchors: tuple[str, ...]
    # Of which the next three are parts.
    subnet: ipaddress.IPv4Network
    edge: Subnet
    lookup: Subnet
    inner: Subnet
    packages: Packages
    image_max_age: int
    ids: Ids = IDS

    @property
    def signing_domains(self) -> tuple[str, ...]:
        """Whose mail is signed: the domains, and the host name, which bounces come from."""
        return _with_host(self.domains, self.hostname)

    @property
    def spf_judged_late(self) -> bool:
        """Whether SPF's fail for a domain of ours is no reason to refuse at RCPT: what DKIM says decides about it."""
        return self.judging.local_sender is not None

    @property
    def extended(self) -> tuple[str, ...]:
        """The addresses that hold a "+" themselves, which is no extension (postconf(5), recipient_delimiter)."""
        return tuple(one for one in self._addresses if "+" in one)

    @property
    def junk_aliases(self) -> tuple[Alias, ...]:
        """Where quarantined mail for an alias goes, by the address that dmarc gives it: to Junk, or outside as ever."""
        listed, local = set(self._addresses), {*self.domains, self.hostname}

        def target(address: str) -> str:
            name, _, domain = address.rpartition("@")
            plain = address if address in listed else f"{name.partition('+')[0]}@{domain}"
            return junk_address(plain) if domain in local else address

        return tuple(Alias(junk_address(one.address), target(one.target)) for one in self.aliases)

    @property
    def _addresses(self) -> tuple[str, ...]:
        return (*self.mailboxes, *(one.address for one in self.aliases))

    @property
    def neighbours(self) -> str | None:
        """The domain in which the engine's DNS has the services beside us, if one of them is named."""
        domain = neighbours(self.project)
        named = [str(self.next_hop), str(self.relay_host), *self.extra_milters]
        return domain if any(f".{domain}" in one for one in named) else None

    @property
    def milters_outside(self) -> tuple[str, ...]:
        """The milters for mail from outside, in their order: OpenDKIM verifies what came, unchanged.

        dmarc comes next, since nobody else may see the authserv-id that it removes.
        """
        return (OPENDKIM, DMARC_OUTSIDE, *self.extra_milters)

    @property
    def milters_inside(self) -> tuple[str, ...]:
        """The milters for our own mail: dmarc refuses what should not be signed, OpenDKIM signs what leaves.

        OpenDKIM verifies what it has no key to sign with, so dmarc comes once more: to remove what that wrote, and to
        let nothing leave unsigned.
        """
        return (*self.extra_milters, DMARC_INSIDE, OPENDKIM, DMARC_SIGNED)


def stack_from(
    settings: Settings, key_of: Callable[[str], DkimKey], authserv_id_digest: str, *, prefix: str = ""
) -> Stack:
    """Decide everything; key_of gives (and makes, if need be) the key of a domain.

    A prefix of the compose project keeps what runs in a world apart from another stack of the same host name.
    """
    own = prefix + project(settings.hostname)
    signers = _with_host(settings.domains, settings.hostname)
    shared = settings.dkim_keys == "shared"
    keys = tuple(key_of(domain) for domain in key_domains(settings))
    signing_keys = tuple(SigningKey(domain, keys[0] if shared else keys[at]) for at, domain in enumerate(signers))
    rows = [SigningRow(domain, domain) for domain in signers]
    if settings.sign_subdomains:
        rows += [SigningRow(f".{domain}", domain) for domain in settings.domains]
    edge, lookup, inner = _subnets(settings.subnet)
    must_sign = settings.milter_default_action == "tempfail"
    beside = neighbours(own)
    hop = settings.delivery
    return Stack(
        project=own,
        hostname=settings.hostname,
        domains=settings.domains,
        public_addresses=settings.public_addresses,
        next_hop=hop and replace(hop, server=_reached(hop.server, beside)),
        mailboxes=settings.mailboxes,
        aliases=(*settings.aliases, *implied_aliases(settings)),
        keys=keys,
        signing_keys=signing_keys,
        signing_rows=tuple(rows),
        trusted_networks=(*LOOPBACK, *settings.trusted_networks),
        spf_qualifier=settings.spf_qualifier,
        spf_record=settings.spf_record,
        spf_actions=SpfActions(
            "tag" if settings.spf_fail == "reject" else settings.spf_fail,
            settings.spf_softfail,
            settings.spf_permerror,
            "defer" if settings.spf_temperror == "defer-early" else "tag",
            settings.dns_wait_hours,
            settings.unknown_sender_domain,
        ),
        spf_skip_networks=settings.spf_skip_networks,
        spf_skip_domains=settings.spf_skip_domains,
        dmarc_policy=settings.dmarc_policy,
        dmarc_report_addresses=settings.dmarc_report_addresses,
        judging=Judging(
            settings.dmarc_action,
            settings.spf_fail,
            settings.spf_temperror,
            settings.local_sender_action if settings.local_sender == "aligned" else None,
            settings.dmarc_skip_networks,
            settings.dmarc_skip_domains,
            settings.dns_wait_hours,
            settings.dns_wait_action,
            signers if must_sign else (),
            settings.domains if must_sign and settings.sign_subdomains else (),
            settings.delivery is None,
        ),
        local_envelope=settings.local_sender_action if settings.local_sender == "envelope" else None,
        authserv_id_digest=authserv_id_digest,
        milter_default_action=settings.milter_default_action,
        extra_milters=tuple(
            f"inet:{_reached(host_port(one.removeprefix('inet:')), beside)}" if one.startswith("inet:") else one
            for one in settings.extra_milters
        ),
        relay_host=settings.relay_host and _reached(settings.relay_host, beside),
        message_size=int(settings.message_size),
        publish=_publish(settings),
        leaves_by=_leaves_by(settings),
        forwarders=settings.resolver_forwarders,
        trust_anchors=settings.resolver_trust_anchors,
        subnet=settings.subnet,
        edge=edge,
        lookup=lookup,
        inner=inner,
        packages=packages_from(settings),
        image_max_age=settings.image_max_age,
    )


def _reached(server: HostPort, beside: str) -> HostPort:
    """A service beside us by its name on the network that postfix and the resolver share; others as they are."""
    return replace(server, host=f"{server.service}.{beside}") if server.service else server


def key_domains(settings: Settings) -> tuple[str, ...]:
    """The domains that have a DKIM key of their own."""
    if settings.dkim_keys == "shared":
        return settings.domains[:1]
    return _with_host(settings.domains, settings.hostname)


def packages_from(settings: Settings) -> Packages:
    """What a site's images are built from."""
    return Packages(settings.base_image, settings.apt_mirror, settings.apt_snapshot, settings.build_proxy)


def _with_host(domains: tuple[str, ...], hostname: str) -> tuple[str, ...]:
    return domains if hostname in domains else (*domains, hostname)


def _subnets(whole: ipaddress.IPv4Network) -> tuple[Subnet, ...]:
    """Edge, lookup, inner: a quarter each, so that no milter or policy service shares one with postfix."""
    parts = list(whole.subnets(prefixlen_diff=2))[:3]
    return tuple(Subnet(part, part[1], part[2], list(part.subnets())[1]) for part in parts)


def rooms(whole: ipaddress.IPv4Network) -> dict[str, int]:
    """How many containers without a fixed address each network takes."""
    parts = dict(zip(NETWORKS, _subnets(whole), strict=True))
    # On the edge all but the network, its gateway, and broadcast; on the others the upper half, which has the latter.
    return {
        name: part.cidr.num_addresses - 3 if name == "edge" else part.others.num_addresses - 1
        for name, part in parts.items()
    }


def _publish(settings: Settings) -> tuple[str, ...]:
    """Compose's "ports". Submission has a port with the first who may use it."""
    submission = settings.port_submission if settings.trusted_networks else 0
    ports = ((settings.port_smtp, 25), (submission, 587))
    return tuple(
        f"{address}:{outside}:{inside}"
        for address in settings.publish_addresses
        for outside, inside in ports
        if outside
    )


def _leaves_by(settings: Settings) -> Address | None:
    """The one published address, where it is the one that other servers see; a private one may lead nowhere."""
    published = settings.publish_addresses
    return published[0] if len(published) == 1 and published[0] in settings.public_addresses else None
