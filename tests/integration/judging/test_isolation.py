"""Every door that need not be open is shut: relaying by whatever way, networks, privileges, what images hold."""

import contextlib
import io
import ipaddress
import os
import smtplib
import socket
import subprocess
import tarfile
import threading
from collections.abc import Iterator

import docker
import pytest
from docker.types import IPAMConfig, IPAMPool

from mailstack.keys import authserv_id
from mailstack.render.contexts import image_name
from mailstack.services import SERVICE_NAMES, SERVICES
from mailstack.services.ids import IDS
from mailstack.world.containers import Machine, wait_for
from mailstack.world.internet import Internet
from mailstack.world.site import Site
from place import EDGE, NAME
from support import Client, address_of, delivered, internal_id, message, raw_results, send, subject

PRIVATE = ["10.99.98.0/28", "172.29.98.0/28", "192.168.98.0/28"]


@pytest.fixture
def neighbour(
    request: pytest.FixtureRequest, world: Internet, bravo: Site, engine_client: docker.DockerClient
) -> Iterator[tuple[Machine, str]]:
    """A host in a network of a private range to which bravo's postfix belongs as well, and bravo's address there."""
    subnet = ipaddress.IPv4Network(request.param)
    pool = IPAMPool(subnet=str(subnet), gateway=str(subnet[1]))
    network = engine_client.networks.create(f"{NAME}-private", internal=True, ipam=IPAMConfig(pool_configs=[pool]))
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(network.remove)
        network.connect(bravo.container("postfix"), ipv4_address=str(subnet[2]))
        cleanup.callback(network.disconnect, bravo.container("postfix"), force=True)
        machine = world.host("neighbour", EDGE[50])
        network.connect(machine.id, ipv4_address=str(subnet[3]))
        cleanup.callback(machine.remove)
        yield machine, str(subnet[2])


@pytest.mark.parametrize("neighbour", PRIVATE, indirect=True)
def test_no_relaying_for_private_ranges(neighbour: tuple[Machine, str]) -> None:
    """A client from a private range is a stranger like any other."""
    machine, bravo_there = neighbour
    for sender in ("user@bravo.example", "someone@listed.example", ""):
        content = message("user@bravo.example", "x@listed.example", subject("private"))
        reply = send(machine, bravo_there, sender, "x@listed.example", content)
        assert (reply.code, reply.text.split()[0]) == (554, "5.7.1")
    with machine.connect(bravo_there, 587) as link:
        assert link.recv(1024).startswith(b"521 5.7.1 ")


@pytest.mark.parametrize("service", SERVICE_NAMES)
def test_container_is_hardened(service: str, alpha: Site, engine_client: docker.DockerClient) -> None:
    """Read-only root, no capability but the listed ones, no-new-privileges, bounded logs, restart by itself."""
    allowed = {
        "postfix": {"CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID", "SYS_CHROOT"},
        "opendkim": {"DAC_READ_SEARCH", "SETGID", "SETPCAP", "SETUID"},
        "dmarc": {"CHOWN", "DAC_READ_SEARCH", "SETGID", "SETPCAP", "SETUID"},
    }
    about = engine_client.api.inspect_container(alpha.container(service))
    host = about["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert {one.removeprefix("CAP_") for one in host["CapAdd"] or ()} == allowed.get(service, set())
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert not host["Privileged"]
    assert host["LogConfig"]["Config"] == {"max-file": "3", "max-size": "10m"}
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert all(not mount["RW"] for mount in about["Mounts"] if mount["Type"] == "bind")


DAEMONS = {one.name: one.uid for one in SERVICES if one.name != "postfix"}


@pytest.mark.parametrize(("service", "user"), DAEMONS.items(), ids=DAEMONS.keys())
def test_daemon_is_not_root(service: str, user: int, alpha: Site) -> None:
    """The daemon runs as its own user without any capability, and cannot get one."""
    status = alpha.run(service, "cat", "/proc/1/status").decode()
    lines = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
    assert set(lines["Uid"].split()) == {str(user)}
    assert {int(lines[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {0}
    # These begin as root, to read a secret, and give all that up.
    if service in {"opendkim", "dmarc"}:
        assert int(lines["CapBnd"], 16) == 0
    assert lines["NoNewPrivs"] == "1"


def test_smtpd_is_chrooted_and_not_root(outsider: Machine, alpha: Site) -> None:
    """An open session is served by a process of the user postfix, and smtpd is a chrooted service."""
    for service in ("smtp/inet", "submission/inet", "submissions/inet", "cleanup/unix"):
        assert alpha.run("postfix", "postconf", "-F", f"{service}/chroot").decode().split()[-1] == "y"
    with Client(outsider, address_of(alpha)) as client:
        client.ehlo()
        script = 'for p in /proc/[0-9]*; do [ "$(cat $p/comm)" = smtpd ] && stat -c %u $p; done; true'
        found = alpha.run("postfix", "sh", "-c", script).decode().split()
    assert set(found) == {str(IDS.postfix)}


def test_only_smtp_listens_on_the_edge(alpha: Site) -> None:
    """On addresses that others reach, postfix listens on 25, 465 and 587, on IPv4 only, and the resolver on nothing."""
    inside = {str(net.resolver) for net in (alpha.stack.lookup, alpha.stack.inner)} | {"127.0.0.1", "127.0.0.11"}
    postfix = {one for one in _listeners(alpha, "postfix") if one[0] not in inside}
    assert postfix == {("0.0.0.0", port) for port in (25, 465, 587)}  # noqa: S104
    for service in ("opendkim", "policyd-spf", "dmarc", "resolver"):
        assert {address for address, _ in _listeners(alpha, service)} <= inside


def _listeners(site: Site, service: str) -> list[tuple[str, int]]:
    """TCP sockets that listen and UDP sockets without a peer (proc(5), /proc/net/tcp and udp)."""
    rows = site.run(service, "sh", "-c", "cat /proc/net/tcp /proc/net/tcp6 /proc/net/udp /proc/net/udp6").decode()
    found = []
    for row in rows.splitlines():
        columns = row.split()
        # 0A: a listening TCP socket; 07: a UDP socket that is not connected.
        if columns[3] not in {"0A", "07"}:
            continue
        address, port = columns[1].split(":")
        if len(address) == 8:
            text = str(ipaddress.IPv4Address(bytes.fromhex(address)[::-1]))
        else:
            text = "::" if int(address, 16) == 0 else address
        found.append((text, int(port, 16)))
    return found


@pytest.mark.parametrize("service", ["opendkim", "policyd-spf", "dmarc"])
def test_no_way_out(service: str, world: Internet, alpha: Site, outsider: Machine) -> None:
    """From opendkim, policyd-spf and dmarc the resolver answers; this host, postfix and the world outside do not."""
    with socket.create_server(("0.0.0.0", 0)) as server:  # noqa: S104
        port = server.getsockname()[1]
        accepted: list[object] = []
        thread = threading.Thread(target=_accept_once, args=(server, accepted), daemon=True)
        thread.start()
        here = subprocess.run(["hostname", "-I"], check=True, capture_output=True, text=True).stdout.split()
        hosts = {one for one in here if ":" not in one} | {str(alpha.stack.inner.gateway)}
        assert hosts
        assert _connects(alpha, service, {f"{host}:{port}" for host in hosts}) == set()
        assert not accepted
        # The server can be reached: by the host itself.
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        thread.join(timeout=5)
        assert accepted
    postfix = alpha.run("postfix", "hostname", "-I").decode().split()
    assert address_of(alpha) in postfix
    outside = {f"{outsider.address}:1080", f"{world.names.address}:53", *(f"{host}:25" for host in postfix)}
    resolver = f"{alpha.stack.inner.resolver}:53"
    assert _connects(alpha, service, {*outside, resolver}) == {resolver}


def _accept_once(server: socket.socket, accepted: list[object]) -> None:
    with contextlib.suppress(OSError):
        accepted.append(server.accept())


# Tries all at once, for three seconds; says which it is connected to.
_CONNECT = r"""
use IO::Socket::INET; use IO::Select;
my ($open, %name) = IO::Select->new;
for (@ARGV) {
    my $socket = IO::Socket::INET->new(PeerAddr => $_, Blocking => 0) or next;
    $name{$socket} = $_;
    $open->add($socket);
}
my $end = time + 4;
while ($open->count and time < $end) {
    for my $socket ($open->can_write(1)) {
        $open->remove($socket);
        print "$name{$socket}\n" if $socket->connected;
    }
}
"""


def _connects(site: Site, service: str, targets: set[str]) -> set[str]:
    """Those of "HOST:PORT" that a service can connect to."""
    return set(site.run(service, "perl", "-e", _CONNECT, *targets).decode().split())


@pytest.mark.parametrize("service", SERVICE_NAMES)
def test_image_holds_nothing_of_the_site(service: str, alpha: Site, engine_client: docker.DockerClient) -> None:
    """Neither the layers and the history of an image nor the container's own file system has a domain or a secret."""
    pem = (alpha.directory / alpha.stack.keys.signers[0].path).read_text().splitlines()
    # A line from the middle: the first ones hold the public modulus.
    wanted = [b"alpha.example", b"alpine.example", pem[len(pem) // 2].encode(), internal_id(alpha)]
    name = image_name(service, alpha.stack.packages)
    history = str(engine_client.images.get(name).history()).encode()
    container = engine_client.containers.get(alpha.container(service))
    # Read whole: a word may lie across two chunks.
    for content in (history, b"".join(container.export())):
        assert len(content) > 1000
        for word in wanted:
            # The engine puts host name and hosts file into every container; they are no part of the export's files.
            assert word not in content or _only_in_engine_files(content, word)


def _only_in_engine_files(archive: bytes, word: bytes) -> bool:
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        found = {one.name for one in files if one.isfile() and (data := files.extractfile(one)) and word in data.read()}
    return found <= {"etc/hostname", "etc/hosts"}


def test_secrets_of_an_ordinary_user(insider: Machine, foxtrot: Site, bravo: Site) -> None:
    """Secret files with mode 0600 of a user that the containers do not know are read, and are not changed."""
    secrets = foxtrot.directory / "secrets"
    files = [foxtrot.directory / foxtrot.stack.keys.signers[0].path, foxtrot.directory / authserv_id.FILE]
    for path in (secrets, secrets / "dkim", *files):
        os.chown(path, 1234, 1234)
    assert {(one.stat().st_uid, one.stat().st_mode & 0o777) for one in files} == {(1234, 0o600)}
    foxtrot.compose("up", "--detach", "--force-recreate", "--no-deps", "opendkim", "dmarc")
    foxtrot.wait_healthy(30)
    about = subject("secrets of another user")
    content = message("user@foxtrot.example", "user@bravo.example", about)
    send(insider, address_of(foxtrot), "user@foxtrot.example", "user@bravo.example", content, port=587)
    assert b"d=foxtrot.example" in delivered(bravo, "user@bravo.example", about)
    content = message("user@bravo.example", "user@foxtrot.example", about)
    send(insider, address_of(bravo), "user@bravo.example", "user@foxtrot.example", content, port=587)
    arrived = delivered(foxtrot, "user@foxtrot.example", about)
    # With the length of the key, which only OpenDKIM tells: dmarc has understood what it wrote under the id.
    assert "dkim=pass (2048-bit key; secure)" in raw_results(arrived)[0]
    assert {(one.stat().st_uid, one.stat().st_mode & 0o777) for one in files} == {(1234, 0o600)}


@pytest.mark.parametrize("service", SERVICE_NAMES)
def test_the_authserv_id_is_between_two(service: str, alpha: Site, engine_client: docker.DockerClient) -> None:
    """The secret is mounted in opendkim and dmarc, where the daemon alone can read its copy, and nowhere else."""
    about = engine_client.api.inspect_container(alpha.container(service))
    mounted = [mount["Destination"] for mount in about["Mounts"] if mount["Source"].endswith("secrets/authserv-id")]
    assert mounted == (["/run/secrets/authserv-id"] if service in {"opendkim", "dmarc"} else [])
    copies = {"opendkim": "/run/opendkim/opendkim.conf", "dmarc": "/run/dmarc/authserv-id"}
    for one, path in copies.items():
        if service == one:
            shown = alpha.run(service, "stat", "-c", "%u %a", path, path.rpartition("/")[0]).decode().splitlines()
            assert shown == [f"{DAEMONS[service]} 600", f"{DAEMONS[service]} 700"]


def test_the_spf_results_are_between_two(alpha: Site) -> None:
    """The socket on which policyd-spf tells how mail was judged is seen by policyd-spf and dmarc alone."""
    found = {
        one
        for one in SERVICE_NAMES
        if alpha.run(one, "sh", "-c", "find /run /var -name results.sock 2>/dev/null || true")
    }
    assert found == {"policyd-spf", "dmarc"}


def test_clients_without_an_address_of_their_own(stack_of_env_example, engine: None) -> None:
    """Through the port that the host publishes nobody relays; who arrives as the gateway is named in the log."""
    with smtplib.SMTP("127.0.0.1", 25, timeout=60) as client:
        client.ehlo("host.example")
        client.mail("")
        code, text = client.rcpt("x@elsewhere.example")
        assert (code, text.split()[0]) == (554, b"5.7.1")
        client.rcpt("user@example.com")
    wait_for(
        lambda: any(
            "hidden behind the engine's gateway" in line and "[172.30.253.1]" in line
            for line in stack_of_env_example.get_logs("postfix")[0].splitlines()
        ),
        "the log does not say that the client arrived as the gateway",
    )


def test_what_is_published(stack_of_env_example, engine_client: docker.DockerClient) -> None:
    """Nothing on IPv6, where every client would look like the gateway; submission not before somebody may use it."""
    container = engine_client.containers.get(stack_of_env_example.get_container("postfix").ID)
    bound = {(one["HostIp"], one["HostPort"], port) for port, hosts in container.ports.items() for one in hosts or ()}
    assert bound == {("0.0.0.0", "25", "25/tcp")}  # noqa: S104
