"""A Stack: every decision about a site, as plain values that the templates print.

It knows nothing of files or of compose; compose is one rendering of it.
"""

import ipaddress
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from mailstack.keys.ring import KeyRing
from mailstack.stack.mail import (
    DMARC_INSIDE,
    DMARC_OUTSIDE,
    DMARC_SIGNED,
    OPENDKIM,
    SRS_MARK,
    ClientLimits,
    Delivery,
    Judging,
    Relay,
    Screening,
    SigningRow,
    SpfActions,
)
from mailstack.stack.networks import Subnet
from mailstack.stack.packages import Packages
from mailstack.values.mail import Alias, by_address, catch_all, domain_of, is_catch_all, junk_address, leading
from mailstack.values.network import Address, Network
from mailstack.values.servers import HostPort, neighbours


@dataclass(frozen=True)
class Stack:
    project: str
    hostname: str
    domains: tuple[str, ...]
    public_addresses: tuple[Address, ...]
    deliveries: tuple[Delivery, ...]
    mailboxes: tuple[str, ...]
    aliases: tuple[Alias, ...]
    # SHA-256 of the key of SRS. None: no mail leaves by an alias, or with its own envelope sender.
    srs_key_digest: str | None
    keys: KeyRing
    signing_rows: tuple[SigningRow, ...]
    trusted_networks: tuple[Network, ...]
    spf_qualifier: str
    spf_record: str | None
    spf_actions: SpfActions
    unknown_sender_domain: str
    spf_skip_networks: tuple[Network, ...]
    spf_skip_domains: tuple[str, ...]
    dmarc_record: str
    dmarc_report_addresses: tuple[str, ...]
    judging: Judging
    # What becomes of mail with an envelope sender of ours, by Postfix's own table; None: not by that.
    local_envelope: Literal["discard", "reject"] | None
    # SHA-256 of the secret under which OpenDKIM tells dmarc what it finds.
    authserv_id_digest: str
    milter_default_action: Literal["tempfail", "accept"]
    extra_milters: tuple[str, ...]
    # The auth service of a Dovecot, as ask-dovecot takes it; None: nobody logs in.
    sasl: str | None
    # By which mail leaves, of some senders' domains and of all others; none for these: by the recipients' MX.
    relays: tuple[Relay, ...]
    message_size: int
    client_limits: ClientLimits
    # Who names the clients, by the PROXY protocol, on ports of their own.
    proxy_networks: tuple[ipaddress.IPv4Network, ...]
    # None: postscreen does not stand before port 25.
    screening: Screening | None
    # The host's directory of certificates and keys, as compose.yaml has it.
    tls_directory: str
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

    @property
    def signing_domains(self) -> tuple[str, ...]:
        """Whose mail is signed: the domains, and the host name, which bounces come from."""
        return with_host(self.domains, self.hostname)

    @property
    def spf_judged_late(self) -> bool:
        """Whether SPF's fail for a domain of ours is no reason to refuse at RCPT: what DKIM says decides about it."""
        return self.judging.local_sender is not None

    @property
    def trusted_forwarders(self) -> tuple[Network, ...]:
        """The networks of forwarders that SPF or DMARC spares."""
        return tuple(dict.fromkeys((*self.spf_skip_networks, *self.judging.skip_networks)))

    @cached_property
    def maildirs(self) -> frozenset[str]:
        """The domains whose mail lies in Maildirs."""
        return frozenset(one.domain for one in self.deliveries if one.hop is None)

    @cached_property
    def asked(self) -> frozenset[str]:
        """The domains whose mailbox server knows the addresses."""
        return frozenset(one.domain for one in self.deliveries if one.asked)

    @property
    def asked_rows(self) -> dict[str, bool]:
        """Whether a mailbox server is asked about a recipient, by address or domain; an alias is as its targets are."""
        asked = self.asked
        found = leading(self._targets, lambda target: domain_of(target) in asked)
        # The row of a catch-all is that of its domain; mailboxes of that have their own.
        rows = {one.removeprefix(catch_all("")): one in found for one in self._targets}
        return {one: one in asked for one in self.signing_domains} | rows

    @property
    def extended(self) -> tuple[str, ...]:
        """The addresses that hold a "+" themselves, which is no extension (postconf(5), recipient_delimiter)."""
        return tuple(dict.fromkeys(one for one in self._addresses if "+" in one))

    @cached_property
    def alias_rows(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Each alias with its targets. A catch-all loses to all other rows, and a mailbox needs one to win.

        With SRS the targets on other servers are marked, so that the mail that goes to them is.
        """
        if not self.srs_key_digest:
            return tuple(self._targets.items())
        here = self._here
        return tuple(
            (address, tuple(one if domain_of(one) in here else f"{one}.{SRS_MARK}" for one in targets))
            for address, targets in self._targets.items()
        )

    @cached_property
    def forwarded(self) -> dict[str, bool]:
        """Whether mail for an address leaves by an alias, or by one that this one leads to.

        Of addresses whose mail stays here, only those that a catch-all would otherwise forward.
        """
        here = self._here
        found = leading(self._targets, lambda target: domain_of(target) not in here)
        return {one: one in found for one in self._targets if one in found or catch_all(domain_of(one)) in found}

    @cached_property
    def _targets(self) -> dict[str, tuple[str, ...]]:
        return by_address(self.aliases, self.mailboxes)

    @cached_property
    def _here(self) -> frozenset[str]:
        return frozenset({*self.domains, self.hostname})

    @property
    def junk_rows(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Where quarantined mail for these goes, by the address that dmarc gives it: to Junk, or outside as ever."""
        return tuple(
            (junk_address(address), targets) for address, targets in self._in_junk if not is_catch_all(address)
        )

    @property
    def caught_junk_rows(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The same for what only the catch-all of a domain takes, if there is a Junk."""
        return tuple((address[2:], targets) for address, targets in self._in_junk if is_catch_all(address))

    @cached_property
    def _in_junk(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        if not self.judging.junk:
            return ()
        listed = set(self._addresses)
        # A mailbox server's domain is there for its catch-all only.
        filed = {*self.judging.junk} - {one.domain for one in self.deliveries if one.hop}

        def target(address: str) -> str:
            name, _, domain = address.rpartition("@")
            plain = address if address in listed else f"{name.partition('+')[0]}@{domain}"
            return address if filed.isdisjoint({domain, plain}) else junk_address(plain)

        return tuple((address, tuple(map(target, targets))) for address, targets in self.alias_rows)

    @property
    def _addresses(self) -> tuple[str, ...]:
        return (*self.mailboxes, *(one.address for one in self.aliases))

    @cached_property
    def neighbours(self) -> str | None:
        """The domain in which the engine's DNS has the services beside us, if one of them is named."""
        domain = neighbours(self.project)
        named = [*(str(one.hop) for one in self.deliveries), *self.extra_milters, str(self.sasl)]
        named += [str(one.server) for one in self.relays]
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


def with_host(domains: tuple[str, ...], hostname: str) -> tuple[str, ...]:
    return domains if hostname in domains else (*domains, hostname)
