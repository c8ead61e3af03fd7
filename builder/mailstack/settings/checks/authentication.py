"""SPF, the way out, and what is done about mail that fails."""

from collections.abc import Collection, Iterable, Iterator

from mailstack.errors import Fault
from mailstack.settings.checks.refused import Refused, fault
from mailstack.settings.model import PREFIX, Settings, variable
from mailstack.values import spf
from mailstack.values.network import Network
from mailstack.values.servers import IMPLICIT_TLS, SUBMISSION, is_address


def contradictions(chosen: Settings, refused: Refused) -> Iterator[Fault]:
    yield from _relay(chosen, refused)
    record, domains = chosen.spf_record or "", set(chosen.domains)
    for domain, term in spf.continued(record).items():
        if domain in domains:
            yield fault(
                "spf_record",
                record,
                f"is the record of {domain} and refers to itself with {term!r}, so it is invalid; remove that term",
            )


def _relay(chosen: Settings, refused: Refused) -> Iterator[Fault]:
    login = ("relay_user", "relay_password", "relay_host")
    missing = [variable(name) for name in login if not getattr(chosen, name) and name not in refused]
    if missing and chosen.relay_user:
        yield fault("relay_user", chosen.relay_user, f"has no effect without {' and '.join(missing)}; set that too")
    elif missing and chosen.relay_password:
        yield fault("relay_password", None, f"has no effect without {' and '.join(missing)}; set that too")
    relay = chosen.relay_host
    if relay and relay.service and chosen.relay_user:
        remedy = "is a service of this compose project; a login is only for other servers, by their full name"
        yield fault("relay_host", str(relay), remedy)
    if relay and is_address(relay.host) and (chosen.relay_user or relay.port in {IMPLICIT_TLS, SUBMISSION}):
        remedy = "is an address, and the certificate is checked by name; write the server's name"
        yield fault("relay_host", str(relay), remedy)


def warnings(chosen: Settings) -> list[str]:
    found = []
    if chosen.relay_host and not chosen.spf_record:
        found.append(
            f"{PREFIX}RELAY_HOST: mail leaves through {chosen.relay_host.host}, which the printed SPF records do "
            f"not list; set {PREFIX}SPF_RECORD to a record that lists that server"
        )
    if chosen.spf_record:
        found += [f"{PREFIX}SPF_RECORD: {one}" for one in _spf_remarks(chosen, chosen.spf_record)]
    if chosen.relay_host and chosen.relay_host.port in {SUBMISSION, IMPLICIT_TLS} and not chosen.relay_user:
        found.append(
            f"{PREFIX}RELAY_HOST: {chosen.relay_host}: most servers require a login on this port; set "
            f"{PREFIX}RELAY_USER and {PREFIX}RELAY_PASSWORD, unless this one accepts mail from this host's address"
        )
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
