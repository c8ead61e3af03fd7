"""The set-ups that are compared: where each takes mail, and what its containers use."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import docker

from bench.accounting import Account, Cgroup, Spawned
from bench.images import PROCESS_LIMIT, RECIPIENT_DOMAIN, REFERENCE_ADDRESSES, RESOLVER, SINK
from bench.load import RECIPIENT
from mailstack.render.contexts import image_name
from mailstack.services import SERVICE_NAMES
from mailstack.stack.packages import Packages
from mailstack.world.containers import wait_for
from mailstack.world.internet import EDGE, Internet
from mailstack.world.site import Site

MAILSTACK = "mailstack"
RESOLVER_PART = "resolver"
# Services of mailstack that judge a message beside OpenDKIM.
JUDGES = ("policyd-spf", "dmarc")

# What a host's Postfix and its helpers may do; the engine gives as much to every container by default.
_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID", "SYS_CHROOT")
# Off the engine's storage driver: of fuse-overlayfs a container has no more open files than its own process may have,
# and hundreds of interpreters want more.
_MOVED = ("/usr/bin", "/usr/lib")
_UNBOUND = "/etc/unbound/mailstack.conf"


@dataclass(frozen=True)
class Candidate:
    """A set-up that runs."""

    name: str
    address: str
    # Control groups; together they are all that the set-up uses.
    parts: Mapping[str, Account]
    # The SPF service by itself, where there is one.
    spf: Account | None
    # The methods (RFC 8601) whose results a delivered message must show.
    methods: frozenset[str]


METHODS: Mapping[str, frozenset[str]] = {
    "bare": frozenset(),
    "tutorial": frozenset({"spf", "dkim"}),
    "tutorial-opendmarc": frozenset({"spf", "dkim", "dmarc"}),
    "rspamd": frozenset({"spf", "dkim", "dmarc"}),
    MAILSTACK: frozenset({"spf", "dkim"} | ({"dmarc"} & set(SERVICE_NAMES))),
}
NAMES = tuple(METHODS)


class Place:
    """Starts candidates in a world; what it starts is handed to the given clean-up."""

    def __init__(
        self,
        client: docker.DockerClient,
        world: Internet,
        images: Mapping[str, str],
        directory: Path,
        clean_up: Callable[[Callable[[], None]], object],
        *,
        tls: bool,
    ) -> None:
        self._client = client
        self._world = world
        self._images = images
        self._directory = directory
        self._clean_up = clean_up
        self._tls = tls

    def mailstack(self) -> Candidate:
        """A stack as a user would build it, in front of the next hop."""
        hostname = "mail.recipient.example"
        override = self._directory / hostname / "overrides/postfix/main.cf"
        override.parent.mkdir(parents=True)
        # What one host may do, and how long a session may be idle, as for the others, which have Postfix's defaults.
        lines = [f"default_process_limit = {PROCESS_LIMIT}", "smtpd_timeout = 300s"]
        # An idle TLS engine in each smtpd would only be memory.
        lines += [] if self._tls else ["smtpd_tls_security_level = none"]
        override.write_text("\n".join([*lines, ""]))
        settings = {
            "LIMIT_SESSIONS": "50",
            **dict.fromkeys(("LIMIT_CONNECTIONS", "LIMIT_MESSAGES", "LIMIT_RECIPIENTS"), "0"),
            "HOSTNAME": hostname,
            "DOMAINS": RECIPIENT_DOMAIN,
            "MAILBOXES": RECIPIENT,
            "DELIVERY": f"smtp:{SINK}:25",
        }
        site = self._world.site({f"MAILSTACK_{name}": value for name, value in settings.items()})
        self._unbound = _on_the_edge(site)
        parts = {service: Cgroup.of(self._client, site.container(service)) for service in SERVICE_NAMES}
        address = str(site.stack.public_addresses[0])
        return Candidate(MAILSTACK, address, parts, parts["policyd-spf"], METHODS[MAILSTACK])

    def references(self, names: Iterable[str], base_image: str) -> list[Candidate]:
        """Each reference in a container of its own, and for all of them a resolver with mailstack's configuration.

        After mailstack(), whose configuration it takes.
        """
        here = self._directory / "references"
        here.mkdir()
        (here / "unbound.conf").write_text(self._unbound)
        (here / "resolv.conf").write_text(f"nameserver {RESOLVER}\n")
        (here / "root.key").write_text(f"{self._world.trust_anchor}\n")
        machine = self._world.edge.start(
            "resolver",
            image_name("resolver", Packages(base_image)),
            RESOLVER,
            command=["unbound", "-d", "-p", "-c", _UNBOUND],
            volumes={here / "unbound.conf": _UNBOUND},
        )
        self._clean_up(machine.remove)
        wait_for(lambda: machine.run("/usr/local/bin/healthcheck") == "", "the references' resolver does not answer")
        resolver = Cgroup.of(self._client, machine.id)
        mounts = {here / "resolv.conf": "/etc/resolv.conf", here / "root.key": "/usr/share/dns/root.key"}
        return [self._reference(name, resolver, mounts) for name in names]

    def _reference(self, name: str, resolver: Cgroup, mounts: Mapping[Path, str]) -> Candidate:
        address = REFERENCE_ADDRESSES[name]
        machine = self._world.edge.start(
            name,
            self._images[name],
            address,
            command=[],
            volumes=mounts,
            moved=_MOVED,
            capabilities=_CAPABILITIES,
        )
        self._clean_up(machine.remove)
        group = Cgroup.of(self._client, machine.id)
        wait_for(lambda: machine.listens(25), f"{name} does not listen")
        if self._tls:
            machine.run("/usr/local/bin/start-tls")
        spf = Spawned(group, "policyd-spf") if name.startswith("tutorial") else None
        return Candidate(name, str(address), {name: group, RESOLVER_PART: resolver}, spf, METHODS[name])


def _on_the_edge(site: Site) -> str:
    """A site's configuration of unbound, to serve the edge instead of the site's own networks."""
    rendered = site.file("resolver", _UNBOUND[1:]).read_text()
    inside = re.compile(r"^ *(?:interface|access-control):.*\n", re.MULTILINE)
    here = f"    interface: 0.0.0.0\n    access-control: {EDGE} allow\n    access-control: 127.0.0.0/8 allow\n"
    return inside.sub("", rendered).replace("server:\n", f"server:\n{here}")
