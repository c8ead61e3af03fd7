"""The policyd-spf container alone, as it is shipped, with a name server of its own where the resolver would be.

Nothing of the container is changed, not even its resolver's address.
"""

import json
import socket
from collections.abc import Mapping
from pathlib import Path

import docker
from docker.models.containers import Container

from bench import dns_answers, policy_load
from bench.accounting import Cgroup
from mailstack.engine import images
from mailstack.errors import EngineError
from mailstack.render.contexts import image_name
from mailstack.services.ids import IDS
from mailstack.settings.model import PREFIX
from mailstack.stack.packages import Packages
from mailstack.world.containers import Temporary, published, wait_for
from mailstack.world.site import Site

SERVICE = "policyd-spf"
SUBNET = "172.30.252.0/27"
_SETTINGS = {
    "HOSTNAME": "mail.policy.example",
    "DOMAINS": "policy.example",
    "MAILBOXES": "user@policy.example",
    "SUBNET": SUBNET,
    # The senders of the RFC 7208 suite have neither.
    "UNKNOWN_SENDER_DOMAIN": "accept",
}
_SOCKET = "/var/spool/postfix/policyd-spf/policyd-spf.sock"
_PORT = 1080


class PolicyServer(Temporary):
    """Beside its name server; connect() leads to the socket that Postfix would use."""

    def __init__(self, directory: Path, base_image: str, settings: Mapping[str, str] | None = None) -> None:
        super().__init__()
        values = _SETTINGS | {"BASE_IMAGE": base_image} | dict(settings or {})
        environment = {PREFIX + name: value for name, value in values.items()}
        self.site = Site(directory, environment, place="services: {}\n", override="")
        # Sources may change while this one runs.
        packages = Packages(base_image)
        self._image, self._bridge_image = (image_name(name, packages) for name in (SERVICE, "world"))
        self._client = docker.from_env()
        # A site has no use for it, so its build has left it out.
        images.build_missing(self._client, {"world": self._bridge_image}, packages)
        self._zone = directory / "dns" / "zone.json"
        self._zone.parent.mkdir(exist_ok=True)
        self.serve({})

    def serve(self, zone: Mapping[str, dns_answers.Records], *, silent: bool = False) -> None:
        """What DNS holds from now on; "TIMEOUT" in it is silence, or else SERVFAIL."""
        # In one step: the server reads it when it has changed.
        fresh = self._zone.with_suffix(".new")
        fresh.write_text(json.dumps({"silent": silent, "zone": zone}))
        fresh.rename(self._zone)

    def _start(self) -> None:
        self._cleanup.callback(self.site.down)
        self.site.compose("up", "--detach", "--wait", "--no-deps", SERVICE)
        name_server, bridge = self._name_server(), self._bridge()
        for container in (name_server, bridge):
            self._cleanup.callback(container.remove, force=True)
            container.start()
        self._address = published(bridge, _PORT)
        self.wait_ready()

    def _name_server(self) -> Container:
        """At the resolver's address. The image has Python and dnspython."""
        container = self._client.containers.create(
            self._image,
            ["python3", "/usr/local/lib/dns_answers.py", "/dns/zone.json"],
            network_mode="none",
            volumes={
                dns_answers.__file__: {"bind": "/usr/local/lib/dns_answers.py", "mode": "ro"},
                str(self._zone.parent): {"bind": "/dns", "mode": "ro"},
            },
            sysctls={"net.ipv4.ip_unprivileged_port_start": "0"},
            cap_drop=["ALL"],
            init=True,
        )
        self._client.networks.get("none").disconnect(container)
        network = self._client.networks.get(f"{self.site.stack.project}_inner")
        network.connect(container, ipv4_address=str(self.site.stack.inner.resolver))
        return container

    def _bridge(self) -> Container:
        """Leads from a port of this host to the socket, which lies in a volume that the group may use."""
        return self._client.containers.create(
            self._bridge_image,
            ["socat", f"TCP4-LISTEN:{_PORT},fork,reuseaddr,backlog=512", f"UNIX-CONNECT:{_SOCKET}"],
            user=f"{IDS.world}:{IDS.sockets}",
            ports={f"{_PORT}/tcp": ("127.0.0.1", None)},  # type: ignore[dict-item]
            volumes=self._socket_volume,
            cap_drop=["ALL"],
            init=True,
        )

    def connect(self) -> socket.socket:
        """A connection to the socket."""
        return socket.create_connection(self._address, timeout=30)

    def restart(self) -> None:
        """Start the container anew: an empty cache."""
        self.site.compose("restart", SERVICE)
        self.wait_ready()

    def wait_ready(self) -> None:
        def answers() -> bool:
            try:
                with self.connect() as link, link.makefile("rb") as replies:
                    link.sendall(b"request=healthcheck\n\n")
                    return replies.readline() == b"action=OK\n"
            except OSError as error:
                raise EngineError(str(error)) from None

        wait_for(answers, "policyd-spf does not answer")

    def load(self, **options: float) -> dict[str, float]:
        """Put load on the socket from a container beside; the figures of policy_load.py, whose options these are."""
        program = "/usr/local/lib/policy_load.py"
        output = self._client.containers.run(
            self._image,
            ["python3", program, "--socket", _SOCKET, *(f"--{name}={value}" for name, value in options.items())],
            user=f"{IDS.world}:{IDS.sockets}",
            network_mode="none",
            volumes={**self._socket_volume, policy_load.__file__: {"bind": program, "mode": "ro"}},
            cap_drop=["ALL"],
            remove=True,
        )
        figures: dict[str, float] = json.loads(output)
        return figures

    @property
    def _socket_volume(self) -> dict[str, dict[str, str]]:
        volume = f"{self.site.stack.project}_policyd-spf-socket"
        return {volume: {"bind": str(Path(_SOCKET).parent), "mode": "rw"}}

    def account(self) -> Cgroup:
        """The kernel's account of the container as it runs now; a restart begins another one."""
        return Cgroup.of(self._client, self.site.container(SERVICE))
