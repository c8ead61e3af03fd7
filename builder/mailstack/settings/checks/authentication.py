"""SPF, the way out, and what is done about mail that fails."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator

from mailstack.errors import Fault
from mailstack.settings.checks.refused import Refused, fault, may_be_meant
from mailstack.settings.model import PREFIX, Settings, variable
from mailstack.values import dmarc, spf
from mailstack.values.network import Network
from mailstack.values.servers import IMPLICIT_TLS, SUBMISSION, HostPort, is_address


def contradictions(chosen: Settings, refused: Refused) -> Iterator[Fault]:
    yield from _relay(chosen, refused)
    yield from _sender_relays(chosen, refused)
    yield from _sender_logins(chosen, refused)
    record, domains = chosen.spf_record or "", set(chosen.domains)
    for domain, term in spf.continued(record).items():
        if domain in domains:
            yield fault(
                "spf_record",
                record,
                f"is the record of {domain} and refers to itself with {term!r}, so it is invalid; remove that term",
            )
    yield from _policy(chosen, refused)


def _policy(chosen: Settings, refused: Refused) -> Iterator[Fault]:
    """What a whole DMARC record says is said by nothing else."""
    if chosen.dmarc_record is None or "dmarc_record" in refused:
        return
    if "dmarc_policy" in chosen.model_fields_set and chosen.dmarc_policy != dmarc.policy(chosen.dmarc_record):
        remedy = f"is not the policy of {PREFIX}DMARC_RECORD, which takes its place; remove one of the two"
        yield fault("dmarc_policy", chosen.dmarc_policy, remedy)
    for one in chosen.dmarc_report_addresses:
        if one not in chosen.reported_to:
            remedy = f"is not in rua= of {PREFIX}DMARC_RECORD, which takes its place; add {dmarc.mailto(one)} there"
            yield fault("dmarc_report_addresses", one, remedy)


def _relay(chosen: Settings, refused: Refused) -> Iterator[Fault]:
    login = ("relay_user", "relay_password", "relay_host")
    missing = [variable(name) for name in login if not getattr(chosen, name) and name not in refused]
    if missing and chosen.relay_user:
        yield fault("relay_user", chosen.relay_user, f"has no effect without {' and '.join(missing)}; set that too")
    elif missing and chosen.relay_password:
        yield fault("relay_password", None, f"has no effect without {' and '.join(missing)}; set that too")
    if chosen.relay_host:
        yield from _certificate("relay_host", str(chosen.relay_host), chosen.relay_host, login=bool(chosen.relay_user))


def _certificate(setting: str, token: str, server: HostPort, *, login: bool) -> Iterator[Fault]:
    """Whether a relay host has a name that its certificate can be for, where that is checked."""
    if server.service and login:
        remedy = "is a service of this compose project; a login is only for other servers, by their full name"
        yield fault(setting, token, remedy)
    if is_address(server.host) and (login or server.port in {IMPLICIT_TLS, SUBMISSION}):
        remedy = "is an address, and the certificate is checked by name; write the server's name"
        yield fault(setting, token, remedy)


def _sender_relays(chosen: Settings, refused: Refused) -> Iterator[Fault]:
    first: dict[str, str] = {}
    ours = {*chosen.domains, chosen.hostname}
    logins = {one.domain for one in chosen.relay_logins}
    meant = [*refused.get("domains", ()), *refused.get("hostname", ())]
    for one in chosen.relay_hosts:
        if one.domain in first:
            remedy = f"is for {one.domain}, and so is {first[one.domain]}; keep one of the two"
            yield fault("relay_hosts", str(one), remedy)
        elif ours.isdisjoint(_and_parents(one.domain)) and not may_be_meant(one.domain, meant):
            remedy = f"is outside the domains; add {one.domain} to {PREFIX}DOMAINS or remove it"
            yield fault("relay_hosts", str(one), remedy)
        first.setdefault(one.domain, str(one))
        yield from _certificate("relay_hosts", str(one), one.server, login=one.domain in logins)


def _and_parents(domain: str) -> Iterator[str]:
    labels = domain.split(".")
    return (".".join(labels[at:]) for at in range(len(labels)))


def _sender_logins(chosen: Settings, refused: Refused) -> Iterator[Fault]:
    hosts = {one.domain for one in chosen.relay_hosts}
    for domain, count in Counter(one.domain for one in chosen.relay_logins).items():
        if count > 1:
            yield fault("relay_logins", None, f"has {count} logins for {domain}; keep one")
        if domain not in hosts and "relay_hosts" not in refused:
            remedy = f"the login for {domain} has no effect without a server; add {domain}=HOST:PORT to"
            yield fault("relay_logins", None, f"{remedy} {PREFIX}RELAY_HOSTS")


def warnings(chosen: Settings) -> list[str]:
    found = []
    if chosen.relay_host and not chosen.spf_record:
        found.append(
            f"{PREFIX}RELAY_HOST: mail leaves through {chosen.relay_host.host}, which the printed SPF records do "
            f"not list; set {PREFIX}SPF_RECORD to a record that lists that server"
        )
    if chosen.relay_hosts and not chosen.spf_record:
        hosts = ", ".join(dict.fromkeys(one.server.host for one in chosen.relay_hosts))
        found.append(
            f"{PREFIX}RELAY_HOSTS: mail leaves through {hosts}, which the printed SPF records do not list; set "
            f"{PREFIX}SPF_RECORD to a record that lists these servers"
        )
    if chosen.spf_record:
        found += [f"{PREFIX}SPF_RECORD: {one}" for one in _spf_remarks(chosen, chosen.spf_record)]
    if chosen.relay_host and chosen.relay_host.port in {SUBMISSION, IMPLICIT_TLS} and not chosen.relay_user:
        found.append(
            f"{PREFIX}RELAY_HOST: {chosen.relay_host}: most servers require a login on this port; set "
            f"{PREFIX}RELAY_USER and {PREFIX}RELAY_PASSWORD, unless this one accepts mail from this host's address"
        )
    logins = {one.domain for one in chosen.relay_logins}
    found += [
        f"{PREFIX}RELAY_HOSTS: {one}: most servers require a login on this port; add one for {one.domain} to "
        f"{PREFIX}RELAY_LOGINS, unless this server accepts mail from this host's address"
        for one in chosen.relay_hosts
        if one.server.port in {SUBMISSION, IMPLICIT_TLS} and one.domain not in logins
    ]
    if chosen.local_sender == "off" and chosen.local_sender_action != "discard":
        found.append(
            f"{PREFIX}LOCAL_SENDER_ACTION: {chosen.local_sender_action!r} has no effect while "
            f"{PREFIX}LOCAL_SENDER is 'off'; write 'aligned' or 'envelope' there"
        )
    if chosen.milter_default_action == "accept":
        found.append(f"{PREFIX}MILTER_DEFAULT_ACTION: mail leaves unsigned while OpenDKIM is down")
    if chosen.dmarc_action == "follow":
        found += [
            f"{PREFIX}SPF_SKIP_NETWORKS: SPF does not check mail from the forwarder {one}, so DMARC can reject "
            f"such mail if no DKIM signature passes; add {one} to {PREFIX}DMARC_SKIP_NETWORKS as well"
            for one in _outside(chosen.spf_skip_networks, chosen.dmarc_skip_networks)
        ]
    return found


def _spf_remarks(chosen: Settings, record: str) -> Iterator[str]:
    yield from spf.remarks(record)
    # With a relay it is that one which sends.
    if (
        not chosen.relay_host
        and spf.covers(record, chosen.hostname, set(chosen.domains), chosen.public_addresses) is False
    ):
        missing = " ".join(f"ip4:{one}" for one in chosen.public_addresses) or f"a:{chosen.hostname}"
        yield f"it does not list this host, so SPF fails for its mail at other servers; add {missing}"


def _outside(networks: Iterable[Network], others: Collection[Network]) -> Iterator[Network]:
    """Those of some networks that lie in none of the others."""
    known, lengths = set(others), {one.prefixlen for one in others}
    for one in networks:
        if not any(length <= one.prefixlen and one.supernet(new_prefix=length) in known for length in lengths):
            yield one
