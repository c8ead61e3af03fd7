"""Health checks notice what is wrong within 30 seconds, and disturb nothing."""

import contextlib
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from mailstack.errors import EngineError
from mailstack.keys import authserv_id
from mailstack.stack import SERVICES
from mailstack.world.containers import Machine, wait_for
from mailstack.world.site import Site
from support import Client, address_of

NOTICED_WITHIN = 30.0


def wait_healthy(site: Site) -> None:
    def healthy() -> bool:
        if not site.healthy():
            raise EngineError(f"{site.states()}")
        return True

    wait_for(healthy, "not every service became healthy", NOTICED_WITHIN)


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


@pytest.mark.parametrize("service", SERVICES)
def test_stopped_daemon(service: str, foxtrot: Site, engine_client: docker.DockerClient) -> None:
    """A daemon that hangs (SIGSTOP) is unhealthy, and healthy when it goes on."""
    container = engine_client.containers.get(foxtrot.container(service))
    # From inside, no signal stops a container's first process.
    send = (lambda name: signal_worker(foxtrot, service, name)) if service in SUPERVISED else container.kill
    send("SIGSTOP")
    try:
        wait_not_healthy(foxtrot, service)
        assert foxtrot.states()[service][:2] == ("running", "unhealthy")
    finally:
        send("SIGCONT")
    wait_healthy(foxtrot)


SOCKETS = [
    ("postfix", "private/rewrite"),
    ("opendkim", "opendkim/opendkim.sock"),
    ("policyd-spf", "policyd-spf/policyd-spf.sock"),
    ("dmarc", "dmarc/outside.sock"),
    ("dmarc", "dmarc/inside.sock"),
]


@pytest.mark.parametrize(("service", "path"), SOCKETS, ids=[path for _, path in SOCKETS])
def test_removed_socket(service: str, path: str, foxtrot: Site) -> None:
    """A service whose socket is gone is unhealthy; started anew, it has one again. The resolver has none."""
    foxtrot.run("postfix", "rm", f"/var/spool/postfix/{path}")
    wait_not_healthy(foxtrot, service)
    foxtrot.compose("restart", service)
    wait_healthy(foxtrot)


BROKEN = {
    "postfix": ("etc/postfix/main.cf", "virtual_mailbox_domains = texthash:/nonexistent\n"),
    "opendkim": ("etc/opendkim/opendkim.conf", "Canonicalisation relaxed\n"),
    "policyd-spf": ("etc/policyd-spf/policy.json", "]"),
    "dmarc": ("etc/dmarc/dmarc.json", "]"),
    "resolver": ("etc/unbound/mailstack.conf", "server:\n  interfaces: none\n"),
}


@contextlib.contextmanager
def changed(path: Path, content: bytes) -> Iterator[None]:
    original, mode = path.read_bytes(), path.stat().st_mode
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(original)
        path.chmod(mode)


@pytest.mark.parametrize("service", SERVICES)
def test_broken_configuration(service: str, foxtrot: Site) -> None:
    """A configuration that the daemon cannot use is noticed; mended, the service is healthy."""
    name, line = BROKEN[service]
    path = foxtrot.file(service, name)
    with changed(path, path.read_bytes() + line.encode()):
        foxtrot.compose("up", "--detach", "--force-recreate", "--no-deps", service)
        wait_not_healthy(foxtrot, service)
    foxtrot.compose("up", "--detach", "--force-recreate", "--no-deps", service)
    wait_healthy(foxtrot)


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
    path = foxtrot.directory / foxtrot.stack.keys[0].path
    with changed(path, KEYS[kind](path.read_bytes())):
        foxtrot.compose("up", "--detach", "--force-recreate", "--no-deps", "opendkim")
        wait_not_healthy(foxtrot, "opendkim")
        wait_for(
            lambda: [line for line in foxtrot.log("opendkim") if f"{path.name} is not the key" in line],
            "the log does not name the key",
        )
        assert not any("PRIVATE" in line for line in foxtrot.log("opendkim"))
    foxtrot.compose("up", "--detach", "--force-recreate", "--no-deps", "opendkim")
    wait_healthy(foxtrot)


@pytest.mark.parametrize("service", ["opendkim", "dmarc"])
def test_wrong_authserv_id(service: str, foxtrot: Site) -> None:
    """With another id than the build's, dmarc would believe none of OpenDKIM's results: the service does not come up."""
    path = foxtrot.directory / authserv_id.FILE
    with changed(path, b"mailstack-" + b"0" * 40 + b"\n"):
        foxtrot.compose("up", "--detach", "--force-recreate", "--no-deps", service)
        wait_not_healthy(foxtrot, service)
        said = "secrets/authserv-id is not the one that was built with; run: mailstack build"
        wait_for(lambda: [line for line in foxtrot.log(service) if said in line], "the log does not name the file")
        assert not any("0" * 40 in line for line in foxtrot.log(service))
    foxtrot.compose("up", "--detach", "--force-recreate", "--no-deps", service)
    wait_healthy(foxtrot)


@pytest.mark.parametrize(("service", "kind"), [("opendkim", "key"), ("opendkim", "id"), ("dmarc", "id")])
def test_missing_secret(service: str, kind: str, foxtrot: Site) -> None:
    """Without a secret's file no container of the service is made; what says so names the file."""
    path = foxtrot.directory / (foxtrot.stack.keys[0].path if kind == "key" else authserv_id.FILE)
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
    lines = {service: foxtrot.log(service) for service in SERVICES}
    for service in SERVICES:
        for _ in range(3):
            assert foxtrot.run(service, "/usr/local/bin/healthcheck") == b""
    assert {service: foxtrot.log(service) for service in SERVICES} == lines


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
        for service in SERVICES:
            foxtrot.run(service, "/usr/local/bin/healthcheck")
        assert foxtrot.healthy()
        assert json.loads(foxtrot.run("postfix", "sh", "-c", "ls /proc | grep -c '^[0-9]'").decode()) > 100
