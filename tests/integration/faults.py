"""A name server of the world that fails as it is told (failing_dns.py)."""

import contextlib
import ipaddress
from collections.abc import Iterator
from pathlib import Path

from integration import failing_dns
from mailstack.services.ids import IDS
from mailstack.world.containers import Machine
from mailstack.world.internet import Internet


@contextlib.contextmanager
def failing_server(world: Internet, name: str, address: ipaddress.IPv4Address) -> Iterator[Machine]:
    """A host that hands questions on to the world's name server, until it is told to fail."""
    program = f"/usr/local/lib/{Path(failing_dns.__file__).name}"
    with world.edge.serving(
        name,
        world.image,
        address,
        failing_dns.PORT,
        command=["python3", program, str(world.names.address)],
        volumes={Path(failing_dns.__file__): program},
        tmpfs={str(failing_dns.FAULTS.parent): f"uid={IDS.world},gid={IDS.world}"},
    ) as machine:
        yield machine


class Faults:
    """A name server that fails for some names."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def set(self, kind: str, *names: str) -> None:
        """Fail in this way for these names and all below, and for no others."""
        lines = "".join(f"{kind} {name}\n" for name in names)
        script = f"printf %s '{lines}' > {failing_dns.FAULTS}.new && mv {failing_dns.FAULTS}.new {failing_dns.FAULTS}"
        self._machine.run("sh", "-c", script)

    def clear(self) -> None:
        self.set("silence")
