"""Health checks notice what is wrong within 30 seconds, and disturb nothing."""

import contextlib
import json
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import docker
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from mailstack.errors import EngineError
from mailstack.keys import authserv_id
from mailstack.services import SERVICE_NAMES
from mailstack.world.containers import Machine, wait_for
from mailstack.world.site import Site
from support import Client, address_of

NOTICED_WITHIN = 30.0


def wait_healthy(site: Site) -> None:
    site.wait_healthy(NOTICED_WITHIN)


def wait_not_healthy(site: Site, service: str) -> None:
    """Unhealthy, or ended and started again and again."""
    wait_for(
        lambda: site.states()[service][:2] not in {("running", "healthy"), ("running", "starting")},
        f"{service} still counts as healthy: {site.states()}",
        NOTICED_WITHIN,
    )


# Services whose first process only holds the sockets, for a worker that serves.
SUPERVISED = ("policyd-spf", "dmarc")


def signal_worker(site: Site, service: str, name: str) -> None:
    """Send a signal, SIG before its name, to a service's worker."""
    script = f"kill -{name.removeprefix('SIG')} $(cat /proc/1/task/1/children) && echo done"
    # As its user: root in the container has no right to.
    wait_for(lambda: site.run(service, "sh", "-c", script, user=service), "there is no worker")


def noticed(site: Site, services: Iterable[str]) -> dict[str, tuple[str, str]]:
    """State and health of those of some services that are seen in time not to be healthy, as each is then."""
    found: dict[str, tuple[str, str]] = {}

    def all_are() -> bool:
        for service, (state, health, _) in site.states().items():
            if service in services and (state, health) not in {("running", "healthy"), ("running", "starting")}:
                found.setdefault(service, (state, health))
        return found.keys() == set(services)

    # Each one that is missing fails a test of its own.
    with contextlib.suppress(EngineError):
        wait_for(all_are, "not all is noticed", NOTICED_WITHIN)
    return found


def at_once(fixture: str, *groups: Sequence[Any], name: Callable[[Any], str] = str) -> pytest.MarkDecorator:
    """A test for each row of each group. The fixture breaks what is in a group at once, and the rows share the wait."""
    return pytest.mark.parametrize(
        (fixture, "row"),
        [pytest.param(group, row, id=name(row)) for group in groups for row in group],
        indirect=[fixture],
        scope="module",
    )


@pytest.fixture(scope="module")
def hanging(
    request: pytest.FixtureRequest, foxtrot: Site, engine_client: docker.DockerClient
) -> dict[str, tuple[str, str]]:
    """How services were when their daemons hung (SIGSTOP); they go on, and all are healthy."""

    def send(name: str) -> None:
        for service in request.param:
            # From inside, no signal stops a container's first process.
            if service in SUPERVISED:
                signal_worker(foxtrot, service, name)
            else:
                engine_client.api.kill(foxtrot.container(service), name)

    send("SIGSTOP")
    try:
        found = noticed(foxtrot, request.param)
        assert {one for one, state in foxtrot.states().items() if state[1] != "healthy"} == set(found)
    finally:
        send("SIGCONT")
    wait_healthy(foxtrot)
    return found


@at_once("hanging", ("resolver",), ("postfix", "opendkim", "policyd-spf", "dmarc"))
def test_stopped_daemon(row: str, hanging: Mapping[str, tuple[str, str]]) -> None:
    """A daemon that hangs is unhealthy, and no other; it is healthy when it goes on."""
    assert hanging.get(row) == ("running", "unhealthy")


SOCKETS = [
    ("dmarc", "dmarc/inside.sock"),
    ("postfix", "private/rewrite"),
    ("opendkim", "opendkim/opendkim.sock"),
    ("policyd-spf", "policyd-spf/policyd-spf.sock"),
    ("dmarc", "dmarc/outside.sock"),
]


@pytest.fixture(scope="module")
def without_sockets(request: pytest.FixtureRequest, foxtrot: Site) -> dict[str, tuple[str, str]]:
    """How services were when their sockets were gone; started anew, all are healthy."""
    services = [service for service, _ in request.param]
    for _, path in request.param:
        foxtrot.run("postfix", "rm", f"/var/spool/postfix/{path}")
    found = noticed(foxtrot, services)
    foxtrot.compose("restart", *services)
    wait_healthy(foxtrot)
    return found


@at_once("without_sockets", SOCKETS[:1], SOCKETS[1:], name=lambda row: row[1])
def test_removed_socket(row: tuple[str, str], without_sockets: Mapping[str, tuple[str, str]]) -> None:
    """A service whose socket is gone is unhealthy; started anew, it has one again. The resolver has none."""
    assert row[0] in without_sockets


BROKEN = {
    "postfix": ("etc/postfix/main.cf", "virtual_mailbox_domains = texthash:/nonexistent\n"),
    "opendkim": ("etc/opendkim/opendkim.conf", "Canonicalisation relaxed\n"),
    "policyd-spf": ("etc/policyd-spf/policy.json", "]"),
    "dmarc": ("etc/dmarc/dmarc.json", "]"),
    "resolver": ("etc/unbound/mailstack.conf", "server:\n  interfaces: none\n"),
}


def recreate(site: Site, *services: str) -> None:
    """Start services in new containers.

    What does not come up has nothing to finish, so its grace period, a minute for Postfix, is not waited for.
    """
    site.compose("up", "--detach", "--force-recreate", "--no-deps", "--timeout", "5", *services)


@contextlib.contextmanager
def changed(path: Path, content: bytes) -> Iterator[None]:
    original, mode = path.read_bytes(), path.stat().st_mode
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(original)
        path.chmod(mode)


@pytest.fixture(scope="module")
def misconfigured(request: pytest.FixtureRequest, foxtrot: Site) -> dict[str, tuple[str, str]]:
    """How services were with configurations that their daemons cannot use; these are mended, and all are healthy."""
    with contextlib.ExitStack() as mended:
        for service in request.param:
            name, line = BROKEN[service]
            path = foxtrot.file(service, name)
            mended.enter_context(changed(path, path.read_bytes() + line.encode()))
        recreate(foxtrot, *request.param)
        found = noticed(foxtrot, request.param)
    recreate(foxtrot, *request.param)
    wait_healthy(foxtrot)
    return found


@at_once("misconfigured", ("resolver",), ("postfix", "opendkim", "policyd-spf", "dmarc"))
def test_broken_configuration(row: str, misconfigured: Mapping[str, tuple[str, str]]) -> None:
    """A configuration that the daemon cannot use is noticed; mended, the service is healthy."""
    assert row in misconfigured


def _other_key(pem: bytes) -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _public_half(pem: bytes) -> bytes:
    return subprocess.run(["openssl", "pkey", "-pubout"], input=pem, check=True, capture_output=True).stdout


KEYS: dict[str, Callable[[bytes], bytes]] = {
    "another key": _other_key,
    "empty": lambda pem: b"",
    "truncated": lambda pem: pem[:200],
    "public": _public_half,
}


@pytest.mark.parametrize("kind", KEYS)
def test_wrong_key(kind: str, foxtrot: Site) -> None:
    """A key that is not the published one does not come up; the log names its file."""
    path = foxtrot.directory / foxtrot.stack.keys.signers[0].path
    with changed(path, KEYS[kind](path.read_bytes())):
        recreate(foxtrot, "opendkim")
        wait_not_healthy(foxtrot, "opendkim")
        wait_for(
            lambda: [line for line in foxtrot.log("opendkim") if f"{path.name} is damaged or does not match" in line],
            "the log does not name the key",
        )
        assert not any("PRIVATE" in line for line in foxtrot.log("opendkim"))
    recreate(foxtrot, "opendkim")
    wait_healthy(foxtrot)


@pytest.mark.parametrize("service", ["opendkim", "dmarc"])
def test_wrong_authserv_id(service: str, foxtrot: Site) -> None:
    """With another id than the build's, dmarc would believe none of OpenDKIM's results: the service does not come up."""
    path = foxtrot.directory / authserv_id.FILE
    with changed(path, b"mailstack-" + b"0" * 40 + b"\n"):
        recreate(foxtrot, service)
        wait_not_healthy(foxtrot, service)
        said = "secrets/authserv-id changed since the last build; run: mailstack build"
        wait_for(lambda: [line for line in foxtrot.log(service) if said in line], "the log does not name the file")
        assert not any("0" * 40 in line for line in foxtrot.log(service))
    recreate(foxtrot, service)
    wait_healthy(foxtrot)


@pytest.mark.parametrize(("service", "kind"), [("opendkim", "key"), ("opendkim", "id"), ("dmarc", "id")])
def test_missing_secret(service: str, kind: str, foxtrot: Site) -> None:
    """Without a secret's file no container of the service is made; what says so names the file."""
    path = foxtrot.directory / (foxtrot.stack.keys.signers[0].path if kind == "key" else authserv_id.FILE)
    away = path.with_suffix(".away")
    foxtrot.compose("rm", "--stop", "--force", service)
    path.rename(away)
    try:
        with pytest.raises(EngineError, match=re.escape(path.name)):
            foxtrot.compose("up", "--detach", "--no-deps", service)
        assert service not in foxtrot.states()
    finally:
        away.rename(path)
    foxtrot.compose("up", "--detach", "--no-deps", service)
    wait_healthy(foxtrot)


def test_checks_leave_no_trace_in_the_logs(foxtrot: Site) -> None:
    """Three more looks at every service add no line to any log, and say nothing."""
    wait_healthy(foxtrot)
    lines = {service: foxtrot.log(service) for service in SERVICE_NAMES}
    for service in SERVICE_NAMES:
        for _ in range(3):
            assert foxtrot.run(service, "/usr/local/bin/healthcheck") == b""
    assert {service: foxtrot.log(service) for service in SERVICE_NAMES} == lines


def test_healthy_with_a_hundred_sessions(
    outsider: Machine,
    backup_mx: Machine,
    forwarder: Machine,
    insider: Machine,
    foxtrot: Site,
    engine_client: docker.DockerClient,
) -> None:
    """With all 100 smtpd processes of port 25 past RCPT the checks still pass."""
    with contextlib.ExitStack() as sessions:
        # smtpd_client_connection_count_limit is 20 for an address that is not trusted.
        for machine, count in ((outsider, 20), (backup_mx, 20), (forwarder, 20), (insider, 40)):
            for _ in range(count):
                client = sessions.enter_context(Client(machine, address_of(foxtrot)))
                client.ehlo()
                assert client.mail("someone@listed.example")[0] == 250
                assert client.rcpt("user@foxtrot.example")[0] == 250
        for service in SERVICE_NAMES:
            foxtrot.run(service, "/usr/local/bin/healthcheck")
        assert foxtrot.healthy()
        assert json.loads(foxtrot.run("postfix", "sh", "-c", "ls /proc | grep -c '^[0-9]'").decode()) > 100
