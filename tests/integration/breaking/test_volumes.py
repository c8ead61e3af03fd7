"""What must outlive containers does: queue, mail and keys; and limits that are hit lose nothing."""

import contextlib
import re
from collections.abc import Iterator

import docker
import pytest

from integration.breaking.test_health import changed, wait_healthy, wait_not_healthy
from integration.breaking.test_outage import assert_once_and_signed
from integration.conftest import INSIDER, site
from mailstack.errors import EngineError
from mailstack.services import SERVICE_NAMES
from mailstack.services.ids import IDS
from mailstack.tasks import written
from mailstack.tasks.build import roll_back
from mailstack.world.containers import Machine, wait_for
from mailstack.world.internet import Internet
from mailstack.world.site import Site
from place import EDGE, NAME
from support import Client, address_of, count, delivered, flush_until_delivered, message, received_spf, send, subject


@pytest.fixture
def kept(world: Internet, insider: Machine, foxtrot: Site) -> Iterator[tuple[str, str]]:
    """One message in foxtrot's mailbox and one in its queue."""
    wait_healthy(foxtrot)
    mailed, queued = subject("in the mailbox"), subject("in the queue")
    world.names.set("late.example", "MX", "10 late.example.")
    world.names.set("late.example", "A", str(EDGE[49]))
    world.names.publish()
    content = message("user@foxtrot.example", "user@foxtrot.example", mailed)
    send(insider, address_of(foxtrot), "user@foxtrot.example", "user@foxtrot.example", content, port=587)
    content = message("user@foxtrot.example", "user@late.example", queued)
    send(insider, address_of(foxtrot), "user@foxtrot.example", "user@late.example", content, port=587)
    delivered(foxtrot, "user@foxtrot.example", mailed)
    wait_for(lambda: b"late.example" in foxtrot.run("postfix", "mailq"), "nothing is in the queue")
    yield mailed, queued
    foxtrot.run("postfix", "postsuper", "-d", "ALL")


# The sockets in each volume of sockets.
SOCKETS = {"opendkim-socket": 1, "policyd-spf-socket": 1, "dmarc-socket": 3, "spf-results": 1}
VOLUMES = ("queue", "mail", *SOCKETS)


def on_volume(site: Site, volume: str, script: str, world: Internet, client: docker.DockerClient) -> str:
    """Run a shell script as root with one of a site's volumes at /volume; what it prints."""
    mount = {f"{site.stack.project}_{volume}": {"bind": "/volume", "mode": "rw"}}
    return client.containers.run(world.image, ["sh", "-c", script], user="0", volumes=mount, remove=True).decode()


def assert_kept(foxtrot: Site, kept: tuple[str, str]) -> None:
    """Both are there, the queued one with the signature that it got."""
    mailed, _ = kept
    wait_healthy(foxtrot)
    assert count(foxtrot, "user@foxtrot.example", mailed) == 1
    key = foxtrot.stack.keys.signers[0]
    assert key.record.encode() in (foxtrot.directory / key.path).with_suffix(".txt").read_bytes()
    assert b"late.example" in foxtrot.run("postfix", "mailq")
    queue_id = re.findall(rb"(?m)^([0-9A-Za-z]{12,})\*? ", foxtrot.run("postfix", "mailq"))[0].decode()
    assert b"DKIM-Signature" in foxtrot.run("postfix", "postcat", "-qh", queue_id)


def assert_receives(site: Site, mailbox: str, outsider: Machine) -> None:
    """Mail from outside is judged by SPF and delivered."""
    about, sender = subject("inbound"), "someone@listed.example"
    assert send(outsider, address_of(site), sender, mailbox, message(sender, mailbox, about)).code == 250
    assert received_spf(delivered(site, mailbox, about)).startswith("Pass ")


def assert_sends(site: Site, mailbox: str, insider: Machine, bravo: Site, world: Internet) -> None:
    """Mail that is submitted comes to bravo once, signed."""
    about, recipient = subject("outbound"), "user@bravo.example"
    content = message(mailbox, recipient, about)
    assert send(insider, address_of(site), mailbox, recipient, content, port=587).code == 250
    assert_once_and_signed(delivered(bravo, recipient, about), bravo, recipient, world)


def test_down_and_up(foxtrot: Site, kept: tuple[str, str]) -> None:
    """Queue, mail and keys survive "down" and "up"."""
    foxtrot.remove_containers()
    foxtrot.up()
    assert_kept(foxtrot, kept)


def test_refresh(foxtrot: Site, kept: tuple[str, str], engine_client: docker.DockerClient) -> None:
    """They survive images that were built again. The images before have names of their own, and come back with them."""
    before = {service: foxtrot.container(service) for service in SERVICE_NAMES}
    names = dict(written.read(foxtrot.directory).images)
    foxtrot.build(foxtrot.environment, refresh=True)
    newer = dict(written.read(foxtrot.directory).images)
    assert not {*names.values()} & {*newer.values()}
    foxtrot.up()
    assert not {foxtrot.container(service) for service in SERVICE_NAMES} & set(before.values())
    assert_kept(foxtrot, kept)
    roll_back(foxtrot.directory)
    foxtrot.up()
    running = {
        one: engine_client.containers.get(foxtrot.container(one)).attrs["Config"]["Image"] for one in SERVICE_NAMES
    }
    assert running == names
    assert_kept(foxtrot, kept)
    # Until the next refresh, not only until the next build.
    foxtrot.build(foxtrot.environment)
    assert written.read(foxtrot.directory).images == names
    assert foxtrot.status()["well"]


# What a volume went through before it came here: a shell command on its directory.
HISTORIES = {
    "one user has everything": "chown -hR 1000:1000 /volume",
    "postfix had another id": f"find /volume -user {IDS.postfix} -exec chown -h 101 {{}} +",
}


@pytest.mark.parametrize("history", HISTORIES)
def test_volumes_of_other_ids(
    history: str,
    foxtrot: Site,
    world: Internet,
    kept: tuple[str, str],
    outsider: Machine,
    engine_client: docker.DockerClient,
) -> None:
    """Volumes of an image with other ids, or of one foreign user throughout, are repaired; what is right is left alone."""
    foxtrot.compose("stop")
    lines = len(foxtrot.log("postfix"))
    for volume in VOLUMES:
        on_volume(foxtrot, volume, HISTORIES[history], world, engine_client)
    foxtrot.compose("start")
    assert_kept(foxtrot, kept)
    assert_receives(foxtrot, "user@foxtrot.example", outsider)
    foreign = foxtrot.run("postfix", "find", "/var/spool/postfix", "/var/vmail", "-uid", "1000", "-o", "-uid", "101")
    assert foreign == b""
    assert foxtrot.run("dmarc", "find", "/run/policyd-spf", "-uid", "1000", "-o", "-uid", "101") == b""
    assert foxtrot.run("postfix", "sh", "-c", "postfix check 2>&1") == b""
    owner = foxtrot.run("postfix", "stat", "-c", "%u:%g", "/var/spool/postfix/maildrop").decode().strip()
    assert owner == f"{IDS.postfix}:{IDS.postdrop}"
    repaired = [line for line in foxtrot.log("postfix")[lines:] if "changing the owner of " in line]
    assert repaired
    foxtrot.compose("restart", "postfix")
    wait_healthy(foxtrot)
    assert [line for line in foxtrot.log("postfix")[lines:] if "changing the owner of " in line] == repaired


@pytest.mark.parametrize(
    "order", [["postfix", "opendkim"], ["opendkim", "postfix"], ["dmarc", "policyd-spf"]], ids=" first, then ".join
)
@pytest.mark.parametrize("containers", ["the same", "new"])
def test_killed_with_everything_left_behind(
    order: list[str],
    containers: str,
    foxtrot: Site,
    world: Internet,
    kept: tuple[str, str],
    insider: Machine,
    bravo: Site,
    engine_client: docker.DockerClient,
) -> None:
    """Over the pid file and sockets of killed daemons a stack starts in either order; queue and mail are as they were."""
    foxtrot.compose("kill", "--signal", "KILL")
    assert on_volume(foxtrot, "queue", "cat /volume/pid/master.pid", world, engine_client).strip() == "1"
    for volume, sockets in SOCKETS.items():
        assert on_volume(foxtrot, volume, "find /volume -type s", world, engine_client).count("\n") == sockets
    if containers == "new":
        foxtrot.remove_containers()
    for service in order:
        foxtrot.compose("up", "--detach", "--no-deps", service)
    foxtrot.compose("up", "--detach")
    assert_kept(foxtrot, kept)
    assert_sends(foxtrot, "user@foxtrot.example", insider, bravo, world)


def test_resolver_files_of_another_network(
    foxtrot: Site, world: Internet, outsider: Machine, insider: Machine, bravo: Site, engine_client: docker.DockerClient
) -> None:
    """A chroot with the resolver files of an earlier network gets the right ones at start; another network changes none."""
    wait_healthy(foxtrot)
    stale, right = "/var/spool/postfix/etc/resolv.conf", "/etc/resolv.conf"
    ours = f"nameserver {foxtrot.stack.lookup.resolver}\n".encode()
    foxtrot.run("postfix", "sh", "-c", f"echo nameserver 192.0.2.53 > {stale}")
    foxtrot.compose("restart", "postfix")
    wait_healthy(foxtrot)
    assert foxtrot.run("postfix", "cat", stale) == foxtrot.run("postfix", "cat", right)
    edge, container = engine_client.networks.get(world.edge.name), foxtrot.container("postfix")
    with contextlib.ExitStack() as cleanup:
        other = engine_client.networks.create(f"{NAME}-other", internal=True)
        cleanup.callback(other.remove)
        edge.disconnect(container)
        cleanup.callback(edge.connect, container, ipv4_address=address_of(foxtrot))
        other.connect(container)
        cleanup.callback(other.disconnect, container, force=True)
        # While it runs, and at a start.
        for _ in range(2):
            for file in (stale, right):
                assert ours in foxtrot.run("postfix", "cat", file)
            foxtrot.compose("restart", "postfix")
            wait_healthy(foxtrot)
    assert_receives(foxtrot, "user@foxtrot.example", outsider)
    assert_sends(foxtrot, "user@foxtrot.example", insider, bravo, world)


HOST_DIRECTORY = """\
services:
  {service}:
    volumes:
      - {{type: bind, source: ./sockets, target: /var/spool/postfix/{service}}}
"""


@pytest.mark.parametrize("service", ["opendkim", "dmarc"])
def test_directory_of_the_host_for_a_socket(service: str, foxtrot: Site) -> None:
    """Where a milter cannot put its socket, as in many bind mounts, the start ends with the directory and the remedy."""
    wait_healthy(foxtrot)
    (foxtrot.directory / "sockets").mkdir(exist_ok=True)
    override = HOST_DIRECTORY.format(service=service).encode()
    with changed(foxtrot.directory / "compose.override.yaml", override):
        foxtrot.compose("up", "--detach", "--no-deps", service)
        wait_not_healthy(foxtrot, service)
        said = [line for line in foxtrot.log(service) if f"/var/spool/postfix/{service}" in line]
        assert all("mount a volume there" in line for line in said)
        assert said
    foxtrot.compose("up", "--detach", "--no-deps", service)
    wait_healthy(foxtrot)


CHANGES = {
    "opendkim": {"MAILSTACK_SIGN_SUBDOMAINS": "false"},
    "policyd-spf": {"MAILSTACK_SPF_SOFTFAIL": "reject-early"},
    "dmarc": {"MAILSTACK_DMARC_ACTION": "mark", "MAILSTACK_LOCAL_SENDER_ACTION": "reject"},
    "postfix": {"MAILSTACK_MESSAGE_SIZE": "20MiB"},
    "resolver": {"MAILSTACK_RESOLVER_FORWARDERS": f"{EDGE[2]},{EDGE[48]}"},
}


@pytest.mark.parametrize("service", CHANGES)
def test_one_setting_recreates_one_service(
    service: str, world: Internet, insider: Machine, foxtrot: Site, bravo: Site
) -> None:
    """Compose recreates the services that use a changed setting, and no other; a message in flight arrives, or is asked for again."""
    wait_healthy(foxtrot)
    original = dict(foxtrot.environment)
    before = {one: foxtrot.container(one) for one in SERVICE_NAMES}
    about = subject(f"in flight, {service}")
    content = message("user@foxtrot.example", "user@bravo.example", about)
    code = 0
    try:
        # The session breaks where Postfix itself is made anew.
        with contextlib.suppress(OSError), Client(insider, address_of(foxtrot), 587) as client:
            client.ehlo()
            client.mail("user@foxtrot.example")
            client.rcpt("user@bravo.example")
            foxtrot.build({**original, **CHANGES[service]})
            foxtrot.up()
            code, _ = client.data(content)
            assert code == 250 or 400 <= code < 500
        now = {one: foxtrot.container(one) for one in SERVICE_NAMES}
        # dmarc knows too whose mail must be signed.
        wanted = {"opendkim", "dmarc"} if service == "opendkim" else {service}
        assert {one for one in SERVICE_NAMES if now[one] != before[one]} == wanted
        if code != 250:
            # What a client does that was not told so.
            send(insider, address_of(foxtrot), "user@foxtrot.example", "user@bravo.example", content, port=587)
        arrived = flush_until_delivered(foxtrot, bravo, "user@bravo.example", about)
        assert_once_and_signed(arrived, bravo, "user@bravo.example", world)
    finally:
        foxtrot.build(original)
        foxtrot.up()


OVERRIDE = """\
services:
  policyd-spf: {mem_limit: 48m, memswap_limit: 48m}
volumes:
  queue:
    driver_opts: {type: tmpfs, device: tmpfs, o: "size=6m,mode=0755"}
"""


@pytest.fixture(scope="module")
def mike(world: Internet) -> Site:
    """A stack with a queue of 6 MB and little memory for policyd-spf."""
    return site(
        world,
        "mail.mike.example",
        "mike.example",
        OVERRIDE,
        MAILBOXES="user@mike.example",
        TRUSTED_NETWORKS=str(INSIDER),
        MESSAGE_SIZE="1MiB",
    )


def test_full_disk(mike: Site, world: Internet, outsider: Machine, insider: Machine, bravo: Site) -> None:
    """With the queue's disk full the answer is 452 for everybody; what was accepted is not lost."""
    about, later = subject("before the disk was full"), subject("after")
    content = message("user@mike.example", "user@bravo.example", about)
    assert send(insider, address_of(mike), "user@mike.example", "user@bravo.example", content, port=587).code == 250
    delivered(bravo, "user@bravo.example", about)
    mike.run("postfix", "sh", "-c", "dd if=/dev/zero of=/var/spool/postfix/ballast bs=64k 2>/dev/null || true")
    for machine, port, recipient in ((insider, 587, "user@bravo.example"), (outsider, 25, "user@mike.example")):
        content = message("someone@listed.example", recipient, later)
        reply = send(machine, address_of(mike), "someone@listed.example", recipient, content, port=port)
        assert (reply.code, reply.text.split()[0]) == (452, "4.3.1")
    mike.run("postfix", "rm", "/var/spool/postfix/ballast")
    content = message("user@mike.example", "user@bravo.example", later)
    assert send(insider, address_of(mike), "user@mike.example", "user@bravo.example", content, port=587).code == 250
    assert_once_and_signed(delivered(bravo, "user@bravo.example", later), bravo, "user@bravo.example", world)
    assert count(bravo, "user@bravo.example", about) == 1


# Requests that are cut off, each almost as long as one may be, from where Postfix connects; or, with an argument, that
# do not even end.
REQUESTS = """
use IO::Socket::UNIX;
my @open;
for (1 .. 1000) {
    my $socket = IO::Socket::UNIX->new(Peer => '/var/spool/postfix/policyd-spf/policyd-spf.sock') or exit;
    print {$socket} map { "attribute$_=" . ('x' x 8000) . "\\n" } 1 .. 8;
    $socket->flush;
    push @open, $socket if @ARGV;
}
readline $open[0] if @ARGV;
"""


def test_memory_limit(
    mike: Site, world: Internet, outsider: Machine, insider: Machine, bravo: Site, engine_client: docker.DockerClient
) -> None:
    """A service that the kernel ends at its memory limit comes back by itself, and mail flows as before.

    What is cut off takes no memory any more.
    """
    wait_healthy(mike)
    container = mike.container("policyd-spf")
    mike.run("postfix", "perl", "-e", REQUESTS)
    wait_for(
        lambda: sum("closing connection: incomplete request" in line for line in mike.log("policyd-spf")) == 1000,
        "not all end",
    )
    assert not any("starting a new one" in line for line in mike.log("policyd-spf"))
    starts = engine_client.api.inspect_container(container)["RestartCount"]
    with contextlib.suppress(EngineError):  # the connections break when the service ends
        mike.run("postfix", "perl", "-e", REQUESTS, "held")
    # It takes the worker, or the supervisor and the worker with it.
    wait_for(
        lambda: (
            any(
                "worker was killed by signal 9 (SIGKILL); starting a new one" in line
                for line in mike.log("policyd-spf")
            )
            or engine_client.api.inspect_container(container)["RestartCount"] > starts
        ),
        "the kernel did not end policyd-spf",
    )
    wait_healthy(mike)
    assert_receives(mike, "user@mike.example", outsider)
    assert_sends(mike, "user@mike.example", insider, bravo, world)
