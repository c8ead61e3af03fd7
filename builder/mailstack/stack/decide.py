"""Settings → Stack."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from pydantic import SecretStr

from mailstack.keys.dkim import DkimKey
from mailstack.keys.ring import Beside, DomainKey, KeyRing
from mailstack.settings.model import Settings
from mailstack.stack.mail import ClientLimits, Delivery, Judging, Relay, Screening, SigningRow, SpfActions
from mailstack.stack.model import Stack, with_host
from mailstack.stack.networks import LOOPBACK, leaves_by, publish, reached, reached_socket, subnets
from mailstack.stack.packages import packages_from
from mailstack.values.dmarc import mailto
from mailstack.values.mail import Alias, by_address, catch_all, domain_of, leading
from mailstack.values.servers import IMPLICIT_TLS, SUBMISSION, HostPort, neighbours, project


def stack_from(
    settings: Settings,
    key_of: Callable[[str], DkimKey],
    on_disk: frozenset[Path],
    authserv_id_digest: str,
    *,
    beside_of: Callable[[str], Beside | None] = lambda _: None,
    srs_key_digest: str | None = None,
    relay_logins: Mapping[str | None, str] = MappingProxyType({}),
    prefix: str = "",
) -> Stack:
    """Decide everything; key_of gives the key of a domain, on_disk has the paths of all private keys that are there.

    beside_of gives the other key of a domain, if it has one.

    srs_key_digest is that of the key of SRS, where that is needed (Settings.forwards_by_srs); relay_logins has the
    secret file with user and password for each relay host that has such, by its senders' domain.

    A prefix of the compose project keeps what runs in a world apart from another stack of the same host name.
    """
    own = prefix + project(settings.hostname)
    signers = with_host(settings.domains, settings.hostname)
    rows = [SigningRow(domain, domain) for domain in signers]
    if settings.sign_subdomains:
        rows += [SigningRow(f".{domain}", domain) for domain in settings.domains]
    edge, lookup, inner = subnets(settings.subnet)
    must_sign = settings.milter_default_action == "tempfail"
    beside = neighbours(own)
    deliveries = _deliveries(settings, beside)
    aliases = settings.all_aliases
    return Stack(
        project=own,
        hostname=settings.hostname,
        domains=settings.domains,
        public_addresses=settings.public_addresses,
        deliveries=deliveries,
        mailboxes=settings.mailboxes,
        aliases=aliases,
        srs_key_digest=srs_key_digest,
        keys=_ring(settings, key_of, beside_of, on_disk),
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
        ),
        unknown_sender_domain=settings.unknown_sender_domain,
        spf_skip_networks=settings.spf_skip_networks,
        spf_skip_domains=settings.spf_skip_domains,
        dmarc_record=settings.dmarc_record or _dmarc_record(settings),
        dmarc_report_addresses=settings.reported_to,
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
            _junk(settings.hostname, deliveries, aliases, settings.mailboxes),
        ),
        local_envelope=settings.local_sender_action if settings.local_sender == "envelope" else None,
        authserv_id_digest=authserv_id_digest,
        milter_default_action=settings.milter_default_action,
        extra_milters=tuple(reached_socket(one, beside) for one in settings.extra_milters),
        sasl=settings.sasl and reached_socket(settings.sasl, beside),
        relays=tuple(
            _relay(domain, server, beside, relay_logins.get(domain))
            for domain, server in _relay_hosts(settings).items()
        ),
        message_size=int(settings.message_size),
        client_limits=ClientLimits(
            settings.limit_sessions,
            settings.limit_connections,
            settings.limit_messages,
            settings.limit_recipients,
            settings.limit_minutes,
            settings.limit_user_sessions,
            settings.limit_user_messages,
            settings.limit_user_recipients,
            settings.limit_user_minutes,
        ),
        proxy_networks=settings.proxy_networks,
        screening=Screening(settings.dnsbl, settings.dnsbl_threshold) if settings.postscreen else None,
        # Compose takes a bare name for a volume's.
        tls_directory=f"{'' if settings.tls_directory.startswith('/') else './'}{settings.tls_directory}",
        publish=publish(settings),
        leaves_by=leaves_by(settings),
        forwarders=settings.resolver_forwarders,
        trust_anchors=settings.resolver_trust_anchors,
        subnet=settings.subnet,
        edge=edge,
        lookup=lookup,
        inner=inner,
        packages=packages_from(settings),
        image_max_age=settings.image_max_age,
    )


def _ring(
    settings: Settings,
    key_of: Callable[[str], DkimKey],
    beside_of: Callable[[str], Beside | None],
    on_disk: frozenset[Path],
) -> KeyRing:
    """Which keys are published and which sign, for their own domains and for those that share one."""
    signing, published, spare, revoked = list[DomainKey](), list[DomainKey](), list[DomainKey](), list[DomainKey]()
    former = list[DkimKey]()
    for domain in key_domains(settings):
        sharing = [one for one in with_host(settings.domains, settings.hostname) if one != domain]
        others = sharing if settings.dkim_keys == "shared" else []
        key, beside = key_of(domain), beside_of(domain)
        label = beside.label_of_signer if beside else key.selector
        signing += (DomainKey(domain, key), *(DomainKey(one, key, label) for one in others))
        published += _published(domain, key, label, others)
        if beside:
            names = _published(domain, beside.key, beside.label, others)
            (revoked if beside.state == "revoked" else published).extend(names)
            spare += names if beside.state == "spare" else []
            former += beside.former
    return KeyRing(on_disk, tuple(published), tuple(signing), tuple(spare), tuple(revoked), tuple(former))


def _published(domain: str, key: DkimKey, label: str, others: Sequence[str]) -> list[DomainKey]:
    """A key under its own name, and under a label at its domain and at the others."""
    own = [DomainKey(domain, key)]
    labelled = [DomainKey(one, key, label) for one in others]
    if labelled and label != key.selector:
        own.append(DomainKey(domain, key, label))
    return own + labelled


def _dmarc_record(settings: Settings) -> str:
    tags = ["v=DMARC1", f"p={settings.dmarc_policy}"]
    if settings.dmarc_report_addresses:
        tags.append("rua=" + ",".join(map(mailto, settings.dmarc_report_addresses)))
    return "; ".join(tags)


def _deliveries(settings: Settings, beside: str) -> tuple[Delivery, ...]:
    asked = settings.asked_domains
    return tuple(
        Delivery(domain, hop and replace(hop, server=reached(hop.server, beside)), domain in asked)
        for domain, hop in settings.next_hops.items()
    )


def _junk(
    hostname: str, deliveries: tuple[Delivery, ...], aliases: tuple[Alias, ...], mailboxes: tuple[str, ...]
) -> tuple[str, ...]:
    """The domains with Maildirs and the host's own, and the aliases of other domains that lead there.

    Where that is the catch-all of a domain, it is the domain.
    """
    domains = [one.domain for one in deliveries if one.hop is None]
    if not domains:
        return ()
    if all(one.domain != hostname for one in deliveries):
        domains.append(hostname)
    known = set(domains)
    targets = by_address(aliases, mailboxes)
    found = leading(targets, lambda target: domain_of(target) in known)
    others = (one.removeprefix(catch_all("")) for one in targets if one in found and domain_of(one) not in known)
    return (*domains, *others)


def _relay_hosts(settings: Settings) -> dict[str | None, HostPort]:
    """The relay hosts by their senders' domain; None stands for all other senders."""
    hosts: dict[str | None, HostPort] = {None: settings.relay_host} if settings.relay_host else {}
    return hosts | {one.domain: one.server for one in settings.relay_hosts}


def relay_logins_of(settings: Settings) -> dict[str | None, str]:
    """Postfix's table of passwords for each relay host that has a login: next hop, user and password."""
    logins: dict[str | None, tuple[str, SecretStr]]
    logins = {one.domain: (one.user, one.password) for one in settings.relay_logins}
    if settings.relay_user and settings.relay_password:
        logins[None] = settings.relay_user, settings.relay_password
    return {
        domain: f"{Relay(domain, server, None, None).hop} {logins[domain][0]}:{logins[domain][1].get_secret_value()}\n"
        for domain, server in _relay_hosts(settings).items()
        if domain in logins
    }


def _relay(domain: str | None, host: HostPort, beside: str, login: str | None) -> Relay:
    demanded = login or host.port in {IMPLICIT_TLS, SUBMISSION}
    return Relay(domain, reached(host, beside), host.host if demanded else None, login)


def key_domains(settings: Settings) -> tuple[str, ...]:
    """The domains that have a DKIM key of their own."""
    if settings.dkim_keys == "shared":
        return settings.domains[:1]
    return with_host(settings.domains, settings.hostname)
