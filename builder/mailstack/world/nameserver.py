"""A Knot DNS server with one DNSSEC-signed root zone, and zones of other kinds that are delegated from it."""

import ipaddress
from pathlib import Path

import dns.dnssec
import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rdtypes.ANY.DNSKEY

from mailstack.errors import EngineError
from mailstack.world.containers import Machine, wait_for

NAME = "ns.example"
# Short, so that what is changed is soon seen through a caching resolver.
TTL = 1
_QUERY_SECONDS = 3.0

_CONFIGURATION = """\
server:
    listen: 0.0.0.0@53
    rundir: /run/knot
log:
  - target: stdout
    any: info
database:
    storage: /var/lib/knot
acl:
  - id: anybody
    action: update
policy:
  - id: signed
    algorithm: ecdsap256sha256
    single-type-signing: on
template:
  - id: default
    storage: /zones
    file: "%s.zone"
    zonefile-sync: -1
    zonefile-load: difference-no-serial
    journal-content: all
    acl: anybody
zone:
"""
_ROOT = """\
  - domain: .
    dnssec-signing: on
    dnssec-policy: signed
"""


class Nameserver:
    """Knows every name of the world. Changes are seen by others after publish().

    Anybody may update it (RFC 2136), until the next publish().
    """

    def __init__(self, machine: Machine, directory: Path, address: ipaddress.IPv4Address, ttl: int = TTL) -> None:
        self.address = address
        self.machine = machine
        self._directory = directory
        self._ttl = ttl
        self._zones: dict[str, dict[tuple[str, str], list[str]]] = {".": {}}
        self._broken: set[str] = set()
        self._served: set[str] = set()
        self.set(NAME, "A", str(address))

    @staticmethod
    def prepare(directory: Path) -> None:
        """Write a configuration that the server can start with; the server needs its files before it is there."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "knot.conf").write_text(_CONFIGURATION + _ROOT)

    def set(self, name: str, kind: str, *values: str) -> None:
        """Replace a name's records of a kind; no values: there are none. A TXT value is quoted as in a zone file."""
        self._zones[self._zone_of(name)][(name.rstrip(".") + ".", kind)] = list(values)

    def delegate_unsigned(self, zone: str) -> None:
        """Make zone one of its own, without a DS in the root: its names are not secure."""
        self._zones[zone.rstrip(".") + "."] = {}

    def break_zone(self, zone: str) -> None:
        """Let every question about a delegated zone end in SERVFAIL, until mend_zone."""
        self._broken.add(zone.rstrip(".") + ".")

    def mend_zone(self, zone: str) -> None:
        self._broken.discard(zone.rstrip(".") + ".")

    def publish(self) -> None:
        """Serve the present state, and return when it is served."""
        configuration = _CONFIGURATION
        for zone in self._zones:
            configuration += _ROOT if zone == "." else f"  - domain: {zone}\n"
            file = self._file(zone)
            if zone in self._broken:
                file.unlink(missing_ok=True)
            else:
                file.write_text(self._text(zone))
        (self._directory / "knot.conf").write_text(configuration)
        self.machine.run("knotc", "-b", "reload")
        for zone in self._zones.keys() - self._broken:
            self.machine.run("knotc", "-b", "zone-reload", zone)
        for zone in self._broken & self._served:
            # Without its file the server would go on with what it has.
            self.machine.run("knotc", "-b", "-f", "zone-purge", zone, "+expire", "+journal")
        self._served = self._zones.keys() - self._broken

    def trust_anchor(self) -> str:
        """The root's key as a DS record (RFC 4034 section 5)."""
        keys, *_ = wait_for(lambda: self.query(".", "DNSKEY").answer, "the name server does not sign its root zone")
        key = next(iter(keys))
        assert isinstance(key, dns.rdtypes.ANY.DNSKEY.DNSKEY)  # noqa: S101
        return f". IN DS {dns.dnssec.make_ds(dns.name.root, key, 'SHA256').to_text()}"

    def query(self, name: str, kind: str) -> dns.message.Message:
        """Ask the server itself, from this host, for tools that check what the stacks say."""
        host, port = self.machine.published(53)
        question = dns.message.make_query(name, kind, want_dnssec=True)
        try:
            return dns.query.tcp(question, host, port=port, timeout=_QUERY_SECONDS)
        except (OSError, EOFError, dns.exception.DNSException) as error:
            raise EngineError(f"the world's name server does not answer: {error!r}") from None

    def txt(self, name: str) -> list[bytes]:
        """The TXT values at a name, strings joined, CNAMEs followed; empty if there are none."""
        answer = self.query(name, "TXT")
        if answer.rcode() not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
            raise EngineError(f"{name} TXT: {dns.rcode.to_text(answer.rcode())}")
        return [b"".join(one.strings) for rrset in answer.answer if rrset.rdtype == dns.rdatatype.TXT for one in rrset]

    def _zone_of(self, name: str) -> str:
        full = name.rstrip(".") + "."
        below = [zone for zone in self._zones if zone != "." and (full == zone or full.endswith(f".{zone}"))]
        return max(below, key=len, default=".")

    def _file(self, zone: str) -> Path:
        return self._directory / f"{zone.rstrip('.')}.zone"

    def _text(self, zone: str) -> str:
        lines = [
            f"{zone} {self._ttl} IN SOA {NAME}. hostmaster.example. 1 3600 600 86400 {self._ttl}",
            f"{zone} {self._ttl} IN NS {NAME}.",
        ]
        if zone == ".":
            lines += [f"{child} {self._ttl} IN NS {NAME}." for child in self._zones if child != "."]
        lines += [
            f"{name} {self._ttl} IN {kind} {value}"
            for (name, kind), values in self._zones[zone].items()
            for value in dict.fromkeys(values)
        ]
        return "\n".join(lines) + "\n"
