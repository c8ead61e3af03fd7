"""Settings → Stack."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mailstack.keys.dkim import DkimKey
from mailstack.keys.ring import DomainKey, KeyRing
from mailstack.settings.model import Settings, implied_aliases
from mailstack.stack.mail import Judging, Relay, SigningRow, SpfActions
from mailstack.stack.model import Stack, with_host
from mailstack.stack.networks import LOOPBACK, leaves_by, publish, reached, subnets
from mailstack.stack.packages import packages_from
from mailstack.values.servers import IMPLICIT_TLS, SUBMISSION, host_port, neighbours, project


def stack_from(
    settings: Settings,
    key_of: Callable[[str], DkimKey],
    on_disk: frozenset[Path],
    authserv_id_digest: str,
    *,
    relay_login: str | None = None,
    prefix: str = "",
) -> Stack:
    """Decide everything; key_of gives the key of a domain, on_disk has the paths of all private keys that are there.

    relay_login is the secret file with user and password for the relay host, if there are such.

    A prefix of the compose project keeps what runs in a world apart from another stack of the same host name.
    """
    own = prefix + project(settings.hostname)
    signers = with_host(settings.domains, settings.hostname)
    shared = settings.dkim_keys == "shared"
    keys = tuple(key_of(domain) for domain in key_domains(settings))
    signing = tuple(DomainKey(domain, keys[0] if shared else keys[at]) for at, domain in enumerate(signers))
    rows = [SigningRow(domain, domain) for domain in signers]
    if settings.sign_subdomains:
        rows += [SigningRow(f".{domain}", domain) for domain in settings.domains]
    edge, lookup, inner = subnets(settings.subnet)
    must_sign = settings.milter_default_action == "tempfail"
    beside = neighbours(own)
    hop = settings.delivery
    return Stack(
        project=own,
        hostname=settings.hostname,
        domains=settings.domains,
        public_addresses=settings.public_addresses,
        next_hop=hop and replace(hop, server=reached(hop.server, beside)),
        mailboxes=settings.mailboxes,
        aliases=(*settings.aliases, *implied_aliases(settings)),
        keys=KeyRing(on_disk, published=signing, signing=signing),
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
            f"inet:{reached(host_port(one.removeprefix('inet:')), beside)}" if one.startswith("inet:") else one
            for one in settings.extra_milters
        ),
        relay=_relay(settings, beside, relay_login),
        message_size=int(settings.message_size),
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


def relay_login_of(settings: Settings) -> str | None:
    """The row of Postfix's table of passwords: next hop, user and password."""
    if settings.relay_host is None or settings.relay_user is None or settings.relay_password is None:
        return None
    hop = Relay(settings.relay_host, None, None).hop
    return f"{hop} {settings.relay_user}:{settings.relay_password.get_secret_value()}\n"


def _relay(settings: Settings, beside: str, login: str | None) -> Relay | None:
    host = settings.relay_host
    if host is None:
        return None
    demanded = login or host.port in {IMPLICIT_TLS, SUBMISSION}
    return Relay(reached(host, beside), host.host if demanded else None, login)


def key_domains(settings: Settings) -> tuple[str, ...]:
    """The domains that have a DKIM key of their own."""
    if settings.dkim_keys == "shared":
        return settings.domains[:1]
    return with_host(settings.domains, settings.hostname)
