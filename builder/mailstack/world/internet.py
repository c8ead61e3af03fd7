"""The world as a whole: brought up, stacks added, torn down."""

import ipaddress
import shutil
from collections.abc import Mapping
from pathlib import Path

from mailstack.dns.formats import rdata
from mailstack.dns.records import records
from mailstack.engine import connection, images
from mailstack.render.contexts import image_name
from mailstack.services.ids import IDS
from mailstack.settings.model import PREFIX
from mailstack.stack.packages import Packages
from mailstack.world.containers import RELAY_PORT, Edge, Machine, Temporary, wait_for
from mailstack.world.nameserver import TTL, Nameserver
from mailstack.world.site import Site

# RFC 5737: addresses that no real host has.
EDGE = ipaddress.IPv4Network("198.51.100.0/24")
_NAMESERVER = 2
_SITES = range(10, 40)
# The sites' inner networks, 32 addresses each.
INNER = ipaddress.IPv4Network("172.30.240.0/22")

_PLACE = """\
# Made by mailstack: this stack's edge is the world's, without a way to the Internet.
services:
  postfix:
    networks:
      edge: {{ipv4_address: {address}}}
networks:
  edge: !override {{external: true, name: {edge}}}
"""


class Internet(Temporary):
    """A name server and an edge network at first; stacks and hosts are added.

    Worlds of one engine need a name and networks of their own, the edge of 128 addresses. The records' TTL is so short
    that changes are soon seen; give another one (seconds) where caches should work.
    """

    def __init__(
        self,
        directory: Path,
        *,
        base_image: str,
        name: str = "mailstack-world",
        edge: ipaddress.IPv4Network = EDGE,
        inner: ipaddress.IPv4Network = INNER,
        ttl: int = TTL,
    ) -> None:
        super().__init__()
        self._directory = directory
        self._base_image = base_image
        self._name = name
        self._network = edge
        self._ttl = ttl
        self._inner = inner.subnets(new_prefix=27)
        self._sites: set[str] = set()
        self._addresses = (edge[at] for at in _SITES)

    def _start(self) -> None:
        client = connection.connect()
        packages = Packages(self._base_image)
        self.image = image_name("world", packages)
        images.build_missing(client, {"world": self.image}, packages)
        self.edge = Edge(client, self._name, self._network)
        self._cleanup.callback(self.edge.remove)
        self.zones = self._directory / "zones"
        Nameserver.prepare(self.zones)
        address = self._network[_NAMESERVER]
        machine = self._machine(
            "ns",
            address,
            ["knotd", "-c", "/zones/knot.conf"],
            ports=(53,),
            volumes={self.zones: "/zones"},
            tmpfs=dict.fromkeys(("/run/knot", "/var/lib/knot"), f"uid={IDS.world},gid={IDS.world}"),
        )
        wait_for(lambda: machine.run("knotc", "-b", "status"), "the name server does not start")
        self.names = Nameserver(machine, self.zones, address, self._ttl)
        self.names.publish()
        self.trust_anchor = self.names.trust_anchor()

    def host(self, name: str, address: ipaddress.IPv4Address) -> Machine:
        """A host on the edge that connections can be made from."""
        machine = self._machine(name, address, ["/usr/local/bin/relays"], ports=(RELAY_PORT,))
        wait_for(lambda: machine.listens(RELAY_PORT), f"{name} does not serve its relay")
        return machine

    def site(self, environment: Mapping[str, str], override: str = "", files: Path | None = None) -> Site:
        """Add a stack with a site's own settings and its compose.override.yaml, and publish its records.

        Only what ties it to its place is replaced: ports, resolver, addresses. Each has a host name of its own. What
        lies in the directory files is there before it starts.
        """
        hostname = environment[f"{PREFIX}HOSTNAME"]
        if hostname in self._sites:
            raise ValueError(f"this world has a site {hostname} already")
        self._sites.add(hostname)
        address = next(self._addresses)
        settings = {
            "PUBLIC_ADDRESSES": str(address),
            "PUBLISH_ADDRESSES": "",
            "RESOLVER_FORWARDERS": str(self.names.address),
            "RESOLVER_TRUST_ANCHORS": self.trust_anchor,
            "SUBNET": str(next(self._inner)),
            "BASE_IMAGE": self._base_image,
        }
        merged = {**environment, **{PREFIX + name: value for name, value in settings.items()}}
        place = _PLACE.format(address=address, edge=self._name)
        if files:
            shutil.copytree(files, self._directory / hostname)
        site = Site(self._directory / hostname, merged, place=place, override=override, prefix=f"{self._name}-")
        for record in records(site.stack):
            self.names.set(record.name, record.type, rdata(record).to_text())
        self.names.publish()
        # A world of this name that was killed has left its containers and its mail.
        if site.containers():
            site.down()
        site.remove_volumes()
        self._cleanup.callback(site.down)
        site.up()
        return site

    def _machine(
        self,
        name: str,
        address: ipaddress.IPv4Address,
        command: list[str],
        **options: object,
    ) -> Machine:
        machine = self.edge.start(name, self.image, address, command=command, **options)  # type: ignore[arg-type]
        self._cleanup.callback(machine.remove)
        return machine
