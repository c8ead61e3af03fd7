"""The world's own containers, by the docker SDK."""

import contextlib
import ipaddress
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import docker
import docker.errors
from docker.models.containers import Container
from docker.models.networks import Network
from docker.types import IPAMConfig, IPAMPool

from mailstack.engine import execution
from mailstack.errors import EngineError

RELAY_PORT = 1080
_WAIT_SECONDS = 30.0
_PAUSE_SECONDS = 0.05

_T = TypeVar("_T")


def wait_for(condition: Callable[[], _T | None], failure: str, seconds: float = _WAIT_SECONDS) -> _T:
    """Return the condition's first true value; raises EngineError with the failure's text when time is up.

    An EngineError in the condition counts as "not yet".
    """
    end = time.monotonic() + seconds
    while True:
        try:
            value = condition()
        except EngineError as error:
            value, failure_now = None, f"{failure} ({error})"
        else:
            failure_now = failure
        if value:
            return value
        if time.monotonic() > end:
            raise EngineError(f"{failure_now}, after {seconds:.0f} s")
        time.sleep(_PAUSE_SECONDS)


class Temporary:
    """A context manager; what it started is removed at its end, in whatever state it is, and if the start fails."""

    def __init__(self) -> None:
        self._cleanup = contextlib.ExitStack()

    def _start(self) -> None:
        """Start what is needed; how each part is removed goes to self._cleanup."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        with self._cleanup:
            self._start()
            # All is there: nothing is removed yet.
            self._cleanup = self._cleanup.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()


def published(container: Container, port: int) -> tuple[str, int]:
    """Where on this host a container's port is; raises EngineError if it is nowhere."""
    container.reload()
    found = container.ports.get(f"{port}/tcp")
    if not found:
        raise EngineError(f"{container.name}: port {port} is not published (is it running?)")
    return found[0]["HostIp"], int(found[0]["HostPort"])


class Edge:
    """The network that is the world's Internet. It has no way out: no mail leaves the machine."""

    def __init__(self, client: docker.DockerClient, name: str, subnet: ipaddress.IPv4Network) -> None:
        self.name = name
        self._client = client
        # The lower half is given out by hand, the upper one by the engine.
        pool = IPAMPool(subnet=str(subnet), gateway=str(subnet[1]), iprange=str(list(subnet.subnets())[1]))
        self._network: Network = client.networks.create(name, internal=True, ipam=IPAMConfig(pool_configs=[pool]))

    def start(
        self,
        name: str,
        image: str,
        address: ipaddress.IPv4Address,
        *,
        command: list[str],
        ports: tuple[int, ...] = (),
        volumes: Mapping[Path, str] | None = None,
        tmpfs: Mapping[str, str] | None = None,
        moved: tuple[str, ...] = (),
        capabilities: tuple[str, ...] = (),
    ) -> "Machine":
        """Start a container with an address on the edge; ports are published on loopback for this host alone.

        The image's directories that are moved lie on volumes, which end with the container.
        """
        container = self._client.containers.create(
            image,
            command,
            name=f"{self.name}-{name}",
            hostname=name,
            ports={f"{port}/tcp": ("127.0.0.1", None) for port in ports},  # type: ignore[misc]
            volumes={str(source): {"bind": target, "mode": "ro"} for source, target in (volumes or {}).items()},
            tmpfs=dict(tmpfs or {}),
            mounts=[docker.types.Mount(target, None, type="volume") for target in moved],
            cap_drop=["ALL"],
            cap_add=list(capabilities),
            sysctls={"net.ipv4.ip_unprivileged_port_start": "0"},
            init=True,
        )
        machine = Machine(self._client, container, address)
        with contextlib.ExitStack() as unless_started:
            unless_started.callback(machine.remove)
            self._network.connect(container, ipv4_address=str(address))
            container.start()
            unless_started.pop_all()
        return machine

    @contextlib.contextmanager
    def serving(
        self,
        name: str,
        image: str,
        address: ipaddress.IPv4Address,
        port: int,
        **options: Any,  # noqa: ANN401
    ) -> Iterator["Machine"]:
        """A container that listens on a TCP port, and is removed afterwards; options are those of start()."""
        machine = self.start(name, image, address, **options)
        try:
            wait_for(lambda: machine.listens(port), f"{name} does not listen")
            yield machine
        finally:
            machine.remove()

    def remove(self) -> None:
        self._network.remove()


class Machine:
    """A container of the world."""

    def __init__(self, client: docker.DockerClient, container: Container, address: ipaddress.IPv4Address) -> None:
        self.address = address
        self._client = client
        self._container = container

    @property
    def id(self) -> str:
        """The engine's id of the container."""
        return str(self._container.id)

    def run(self, *command: str) -> str:
        """Run a command in the container; its output. Raises EngineError if it fails."""
        return execution.run(self._client, self.id, command).decode(errors="replace")

    def published(self, port: int) -> tuple[str, int]:
        """Where on this host a port of the container is."""
        return published(self._container, port)

    def listens(self, port: int) -> bool:
        """Whether something listens on a TCP port (proc(5): state 0A in /proc/net/tcp and tcp6)."""
        table = [row.split() for row in self.run("cat", "/proc/net/tcp", "/proc/net/tcp6").splitlines()]
        return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in table)

    def connect(self, host: str, port: int, seconds: float = 30.0) -> socket.socket:
        """A TCP connection to a host of the edge that comes from this machine's address there."""
        link = socket.create_connection(self.published(RELAY_PORT), timeout=seconds)
        link.sendall(f"{host} {port}\n".encode())
        return link

    def remove(self) -> None:
        """Remove the container, unless it is gone already."""
        with contextlib.suppress(docker.errors.NotFound):
            self._container.remove(force=True, v=True)
