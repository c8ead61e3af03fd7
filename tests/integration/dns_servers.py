"""The zones of a check's tests at real servers: a Knot for each address, and unbound, all on this host's loopback."""

import contextlib
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from docker.models.containers import Container

from mailstack.engine import connection, execution, images
from mailstack.engine.connection import Client
from mailstack.render.contexts import image_name
from mailstack.services.ids import IDS
from mailstack.stack.packages import Packages
from mailstack.world.containers import wait_for
from place import BASE_IMAGE, NAME
from unit.dns_world import RESOLVER, TTL, Internet, rdata

_KNOT = """\
server:
    listen: {address}@{port}
    rundir: /run/knot/{address}
database:
    storage: /var/lib/knot/{address}
log:
  - target: stdout
    any: warning
template:
  - id: default
    storage: /zones/{address}
    file: "%s.zone"
    zonefile-load: whole
    zonefile-sync: -1
    journal-content: none
zone:
"""
_SIGNED = "    dnssec-signing: on\n    journal-content: all\n    zonefile-load: difference-no-serial\n"
_UNBOUND = """\
server:
    interface: {resolver}@{port}
    port: {port}
    access-control: 127.0.0.0/8 allow
    do-not-query-localhost: no
    do-ip6: no
    chroot: ""
    username: ""
    directory: "/tmp"
    pidfile: ""
    use-syslog: no
    module-config: "{modules}"
    # What is published counts at once.
    cache-max-ttl: 0
    cache-max-negative-ttl: 0
    infra-host-ttl: 0
    local-zone: "." static
"""


class Servers:
    """Containers that stay while tests publish one state of the zones after the other.

    Each address has a Knot of its own, so that one may be stopped, lack a zone or have another state. signed are the
    zones that Knot signs; unbound validates them, by their keys or by another one.
    """

    def __init__(self, client: Client, directory: Path, zones: Mapping[str, Mapping[str, str]], port: int) -> None:
        self.port = port
        self.signed: Collection[str] = ()
        self.wrong_anchor = False
        self.without: set[tuple[str, str]] = set()
        self._client = client
        self._zones = zones
        # The servers have another user.
        self._directory = directory / "zones"
        self._directory.mkdir()
        self._knots: Container | None = None
        self._resolver: Container | None = None
        self._addresses = sorted({one for servers in zones.values() for one in servers.values()})

    def start(self, run: contextlib.ExitStack, packages: Packages) -> None:
        """Start the servers without records."""
        world = Internet(self._zones)
        self._write(world)
        begin = "; ".join(
            f"mkdir -p /run/knot/{one} /var/lib/knot/{one}; knotd -c /zones/{one}/knot.conf &"
            for one in self._addresses
        )
        begin = begin.replace("&;", "&")
        self._knots = self._run(
            run,
            "dns-servers",
            image_name("world", packages),
            ["sh", "-c", f"{begin} wait"],
            {self._directory: "/zones"},
            tmpfs=dict.fromkeys(("/run/knot", "/var/lib/knot"), f"uid={IDS.world},gid={IDS.world}"),
        )
        wait_for(lambda: self._do([_knotc(one, "status") for one in self._addresses]), "Knot does not start")
        self._put("unbound.conf", self._unbound())
        self._resolver = self._run(
            run,
            "dns-resolver",
            image_name("resolver", packages),
            ["unbound", "-d", "-p", "-c", "/zones/unbound.conf"],
            {self._directory: "/zones"},
            tmpfs={"/tmp": ""},  # noqa: S108
            entrypoint=["env"],
        )

    def _run(
        self,
        run: contextlib.ExitStack,
        name: str,
        image: str,
        command: list[str],
        volumes: Mapping[Path, str],
        **options: object,
    ) -> Container:
        container = self._client.containers.create(
            image,
            command,
            name=f"{NAME}-{name}",
            network_mode="host",
            volumes={str(source): {"bind": target, "mode": "ro"} for source, target in volumes.items()},
            cap_drop=["ALL"],
            init=True,
            **options,  # type: ignore[arg-type]
        )
        run.callback(container.remove, force=True, v=True)
        container.start()
        return container

    def serve(self, world: Internet) -> None:
        """Serve a state of the zones. Raises EngineError with Knot's words if a zone is one that it refuses."""
        self._do(self._write(world))
        if self._put("unbound.conf", self._unbound()):
            assert self._resolver is not None
            self._resolver.restart(timeout=0)
            wait_for(self._listens, "unbound does not start")

    def stop(self, address: str) -> None:
        """Let a server say nothing more, without a refusal by the kernel, until go_on()."""
        self._signal("STOP", address)

    def go_on(self, address: str) -> None:
        self._signal("CONT", address)

    def _signal(self, name: str, address: str) -> None:
        self._do([f"kill -{name} $(cat /run/knot/{address}/knot.pid)"])

    def _do(self, commands: Sequence[str]) -> str:
        """Run commands of a shell by the servers' side; what they print."""
        assert self._knots is not None
        return execution.run(self._client, str(self._knots.id), ["sh", "-ec", "\n".join(commands)]).decode()

    def _listens(self) -> bool:
        with socket.socket() as one:
            return one.connect_ex((RESOLVER, self.port)) == 0

    def _write(self, world: Internet) -> list[str]:
        """Write what changes; the commands by which the servers take it, after all of it was found good."""
        checks, takes = [], []
        for address in self._addresses:
            zones = [one for one, servers in self._zones.items() if address in servers.values()]
            served = [one for one in zones if (one, address) not in self.without]
            configuration = _KNOT.format(address=address, port=self.port)
            for zone in served:
                configuration += f"  - domain: {zone}\n" + (_SIGNED if zone in self.signed else "")
            if self._put(f"{address}/knot.conf", configuration):
                takes.append(_knotc(address, "reload"))
            for zone in served:
                if self._put(f"{address}/{zone}.zone", _zone(world, zone, address)):
                    checks.append(f"knotc -c /zones/{address}/knot.conf zone-check {zone} >&2")
                    takes.append(_knotc(address, f"zone-reload {zone}"))
        return checks + takes

    def _put(self, name: str, text: str) -> bool:
        """Whether a file was written, since it did not have this text."""
        file = self._directory / name
        if file.exists() and file.read_text() == text:
            return False
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        return True

    def _unbound(self) -> str:
        modules = "validator iterator" if self.signed else "iterator"
        text = _UNBOUND.format(resolver=RESOLVER, port=self.port, modules=modules)
        for zone in self._zones:
            text += f'    local-zone: "{zone}." transparent\n'
        for zone in self.signed:
            text += f'    trust-anchor: "{self._anchor(zone)}"\n'
        for zone, servers in self._zones.items():
            text += f'stub-zone:\n    name: "{zone}."\n'
            text += "".join(f"    stub-addr: {one}@{self.port}\n" for one in servers.values())
        return text

    def _anchor(self, zone: str) -> str:
        """The zone's key as a DS record, or one of no key."""
        address = next(iter(self._zones[zone].values()))
        if self.wrong_anchor or self._knots is None:
            return f"{zone}. IN DS 1 13 2 {'0' * 64}"
        found = wait_for(
            lambda: [
                one
                for one in self._do([f"keymgr -c /zones/{address}/knot.conf {zone} ds"]).splitlines()
                if " 2 " in one
            ],
            "Knot does not sign",
        )
        return found[-1].replace(" DS ", " IN DS ")


class Published(Internet):
    """Zones that real servers have while they are served."""

    def __init__(self, servers: Servers, zones: Mapping[str, Mapping[str, str]]) -> None:
        super().__init__(zones)
        self._servers = servers

    @contextlib.contextmanager
    def served(self) -> Iterator[int]:
        silent = [address for address, behaviour in self.behaviours.items() if behaviour == "silent"]
        self._servers.without = {
            (zone, address)
            for address, behaviour in self.behaviours.items()
            if behaviour == "refused"
            for zone in self.zones
        }
        self._servers.serve(self)
        for one in silent:
            self._servers.stop(one)
        try:
            yield self._servers.port
        finally:
            for one in silent:
                self._servers.go_on(one)


def _knotc(address: str, command: str) -> str:
    return f"knotc -b -s /run/knot/{address}/knot.sock {command}"


def _zone(world: Internet, zone: str, address: str) -> str:
    """A zone file with what one server has."""
    serial = world.serials.get(address, 1)
    lines = [f"{zone}. {TTL} IN SOA ns. hostmaster. {serial} 3600 600 86400 300"]
    lines += [f"{zone}. {TTL} IN NS {one}." for one in world.zones[zone]]
    for (name, kind), values in world.records(address).items():
        if world.zone_of(name) == zone:
            lines += [f"{name}. {TTL} IN {kind} {rdata(kind, value).to_text()}" for value in values]
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def running(directory: Path, zones: Mapping[str, Mapping[str, str]]) -> Iterator[Servers]:
    """Servers for these zones, which are removed afterwards."""
    packages = Packages(BASE_IMAGE)
    client = connection.connect()
    images.build_missing(client, {one: image_name(one, packages) for one in ("world", "resolver")}, packages)
    servers = Servers(client, directory, zones, _free_port(zones))
    with contextlib.ExitStack() as run:
        servers.start(run, packages)
        yield servers


def _free_port(zones: Mapping[str, Mapping[str, str]]) -> int:
    """A port that none of the addresses uses."""
    addresses = {RESOLVER, *(one for servers in zones.values() for one in servers.values())}
    for _ in range(20):
        with contextlib.ExitStack() as open_ones:
            port = 0
            try:
                for address in sorted(addresses):
                    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                        one = open_ones.enter_context(socket.socket(socket.AF_INET, kind))
                        one.bind((address, port))
                        port = one.getsockname()[1]
            except OSError:
                continue
            return port
    raise OSError("no port is free on all loopback addresses")
