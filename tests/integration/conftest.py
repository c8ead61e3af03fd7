"""One world for the whole suite: stacks alpha and bravo, further ones with other settings, and hosts beside them.

| stack | what differs from the defaults |
| --- | --- |
| alpha | two domains, one key, an alias that leads elsewhere without SRS, DMARC reports elsewhere |
| bravo | publishes -all |
| charlie | publishes -all, refuses by SPF at RCPT, a key for each domain, sub-domains unsigned, host name is a mail domain,
goes on without OpenDKIM |
| delta | in an unsigned zone, two domains, rejects local envelope senders, SPF fail and temperror are only tagged,
aliases of every form, with SRS |
| echo | local senders may come from outside, mail goes on to a mailbox server by LMTP, or elsewhere with SRS |
| foxtrot | for tests that break it |
"""

import ipaddress
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest
from testcontainers.compose import DockerCompose

import readers
from bench import images as bench_images
from integration.mailbox_server import MailboxServer
from mailstack.dns.formats import rdata
from mailstack.dns.records import records
from mailstack.engine import connection, images
from mailstack.render.contexts import image_name
from mailstack.settings.model import PREFIX
from mailstack.stack.packages import Packages
from mailstack.world.containers import Machine
from mailstack.world.internet import Internet
from mailstack.world.site import Site
from place import BASE_IMAGE, EDGE, INNER, NAME

OUTSIDER, INSIDER, BACKUP_MX, FORWARDER = EDGE[7], EDGE[8], EDGE[9], EDGE[6]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.engine)


@pytest.fixture(scope="session")
def world(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Internet]:
    place = {"name": NAME, "edge": EDGE, "inner": INNER}
    with Internet(tmp_path_factory.mktemp("world"), base_image=BASE_IMAGE, **place) as internet:
        names = internet.names
        names.set("outsider.example", "A", str(OUTSIDER))
        names.delegate_unsigned("unsigned.example")
        names.delegate_unsigned("broken.example")
        names.set("broken.example", "A", str(OUTSIDER))
        names.break_zone("broken.example")
        # A host that is not there: mail for it waits in the queue.
        names.set("late.example", "A", str(EDGE[49]))
        for name in ("sub.bravo.example", "sub.delta.unsigned.example"):
            names.set(name, "A", str(OUTSIDER))
        for name, record in SENDERS.items():
            names.set(name, "A", str(OUTSIDER))
            if record:
                names.set(name, "TXT", f'"{record}"')
        names.set("_dmarc.quarantined.example", "TXT", '"v=DMARC1; p=quarantine"')
        names.publish()
        yield internet


LONG_LABEL, LONG_NAME = f"{'a' * 63}.example", f"{'.'.join(['b' * 59] * 3)}.example"
# Domains that outsiders send from; each has an address, so that it exists.
SENDERS = {
    "listed.example": f"v=spf1 ip4:{OUTSIDER} -all",
    "softfail.example": "v=spf1 ip4:192.0.2.1 ~all",
    "fail.example": "v=spf1 ip4:192.0.2.1 -all",
    "neutral.example": "v=spf1 ?all",
    "none.example": "",
    "permerror.example": "v=spf1 nonsense:term -all",
    # Three names that are not there: more void look-ups than RFC 7208 section 4.6.4 allows.
    "void.example": "v=spf1 a:v1.void.example a:v2.void.example a:v3.void.example -all",
    "temperror.example": "v=spf1 include:broken.example -all",
    "signer.example": "v=spf1 -all",
    "forwarder.example": f"v=spf1 ip4:{FORWARDER} -all",
    "quarantined.example": "",
    # As long as a label may be, and as long as a name that a mailbox still fits before (RFC 5321 section 4.5.3.1.3).
    LONG_LABEL: "",
    LONG_NAME: "",
}


@pytest.fixture(scope="session")
def outsider(world: Internet) -> Machine:
    """A host that no stack knows."""
    return world.host("outsider", OUTSIDER)


@pytest.fixture(scope="session")
def insider(world: Internet) -> Machine:
    """A host that alpha and bravo trust."""
    return world.host("insider", INSIDER)


@pytest.fixture(scope="session")
def backup_mx(world: Internet) -> Machine:
    """A host whose mail charlie does not judge by SPF."""
    return world.host("backup", BACKUP_MX)


@pytest.fixture(scope="session")
def forwarder(world: Internet) -> Machine:
    """A host that charlie lets hand on mail because a domain's SPF record names it."""
    return world.host("forwarder", FORWARDER)


# Tests send more from one host in a minute than a client may.
WITHOUT_LIMITS = dict.fromkeys(("LIMIT_CONNECTIONS", "LIMIT_MESSAGES", "LIMIT_RECIPIENTS"), "0")


def site(world: Internet, hostname: str, domains: str, override: str = "", **settings: str) -> Site:
    values = {"HOSTNAME": hostname, "DOMAINS": domains, **WITHOUT_LIMITS, **settings}
    return world.site({f"MAILSTACK_{name}": value for name, value in values.items()}, override)


@pytest.fixture(scope="session")
def alpha(world: Internet) -> Site:
    return site(
        world,
        "mail.alpha.example",
        "alpha.example,alpine.example",
        MAILBOXES="user@alpha.example,user@alpine.example",
        ALIASES="away@alpha.example=user@bravo.example,late@alpha.example=user@late.example",
        SRS="false",
        DMARC_REPORT_ADDRESSES="dmarc@listed.example",
        TRUSTED_NETWORKS=str(INSIDER),
    )


@pytest.fixture(scope="session")
def bravo(world: Internet) -> Site:
    return site(
        world,
        "mail.bravo.example",
        "bravo.example",
        MAILBOXES="user@bravo.example,corpora@bravo.example",
        ALIASES="sales@bravo.example=user@bravo.example",
        TRUSTED_NETWORKS=str(INSIDER),
        SPF_QUALIFIER="-",
    )


@pytest.fixture(scope="session")
def charlie(world: Internet) -> Site:
    return site(
        world,
        "charlie.example",
        "charlie.example,chess.example",
        MAILBOXES="user@charlie.example",
        DKIM_KEYS="per-domain",
        SIGN_SUBDOMAINS="false",
        SPF_QUALIFIER="-",
        SPF_FAIL="reject-early",
        SPF_SOFTFAIL="reject-early",
        SPF_PERMERROR="reject-early",
        SPF_SKIP_NETWORKS=str(BACKUP_MX),
        SPF_SKIP_DOMAINS="forwarder.example",
        MILTER_DEFAULT_ACTION="accept",
    )


@pytest.fixture(scope="session")
def delta(world: Internet) -> Site:
    return site(
        world,
        "mail.delta.unsigned.example",
        "delta.unsigned.example,disco.unsigned.example",
        MAILBOXES="user@delta.unsigned.example,caught@delta.unsigned.example,box@disco.unsigned.example,"
        "keep@disco.unsigned.example",
        ALIASES="team@disco.unsigned.example=user@delta.unsigned.example,"
        "team@disco.unsigned.example=box@disco.unsigned.example,"
        "keep@disco.unsigned.example=keep@disco.unsigned.example,"
        "keep@disco.unsigned.example=user@delta.unsigned.example,"
        "*@disco.unsigned.example=caught@delta.unsigned.example,"
        "out@delta.unsigned.example=user@bravo.example,gone@delta.unsigned.example=nobody@bravo.example,"
        "both@delta.unsigned.example=user@delta.unsigned.example,both@delta.unsigned.example=user@bravo.example",
        LOCAL_SENDER="envelope",
        LOCAL_SENDER_ACTION="reject",
        SPF_FAIL="tag",
        SPF_TEMPERROR="tag",
    )


@pytest.fixture(scope="session")
def mailbox_server(world: Internet) -> Iterator[MailboxServer]:
    """An LMTP server on the edge, at the address that this machine has there."""
    with MailboxServer(ipaddress.IPv4Address(EDGE[1]), {"user@echo.example"}) as server:
        yield server


@pytest.fixture(scope="session")
def echo(world: Internet, mailbox_server: MailboxServer) -> Site:
    return site(
        world,
        "mail.echo.example",
        "echo.example",
        DELIVERY=f"lmtp:{mailbox_server.address}:{mailbox_server.port}",
        ALIASES="sales@echo.example=user@echo.example,keep@echo.example=keep@echo.example,"
        "keep@echo.example=user@bravo.example",
        LOCAL_SENDER="off",
    )


@pytest.fixture(scope="session")
def foxtrot(world: Internet) -> Site:
    return site(
        world,
        "mail.foxtrot.example",
        "foxtrot.example",
        MAILBOXES="user@foxtrot.example",
        TRUSTED_NETWORKS=str(INSIDER),
    )


@pytest.fixture(scope="module")
def alpha_rejects(world: Internet, alpha: Site) -> Iterator[Site]:
    """Alpha, whose domains ask to reject what fails."""
    (record,) = [one for one in records(alpha.stack) if one.type == "TXT" and one.name == "_dmarc.alpha.example"]
    world.names.set(record.name, "TXT", '"v=DMARC1; p=reject; aspf=s"')
    world.names.publish()
    yield alpha
    world.names.set(record.name, "TXT", rdata(record).to_text())
    world.names.publish()


@pytest.fixture(scope="session")
def engine_client(engine: None) -> docker.DockerClient:
    return connection.connect()


@pytest.fixture(scope="session")
def rspamd(engine_client: docker.DockerClient) -> Iterator[readers.Rspamd]:
    tags = bench_images.build(engine_client, BASE_IMAGE, ("bare", "rspamd"))
    with readers.Rspamd(tags["rspamd"]) as reader:
        yield reader


@pytest.fixture(scope="session")
def readers_image(engine_client: docker.DockerClient) -> str:
    packages = Packages(BASE_IMAGE)
    image = image_name("readers", packages)
    images.build_missing(engine_client, {"readers": image}, packages)
    return image


@pytest.fixture(scope="session")
def programs(readers_image: str) -> Iterator[tuple[readers.Program, ...]]:
    """Debian's programs that read addresses."""
    with ExitStack() as stack:
        yield tuple(map(stack.enter_context, readers.programs(readers_image)))


CHECKOUT = Path(__file__).parents[2]
MAILSTACK = (sys.executable, "-m", "mailstack")


def without_settings() -> dict[str, str]:
    """The environment of a person who has set nothing in it."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}


def run_in(directory: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a person would who has only the directory's .env."""
    return subprocess.run(command, cwd=directory, env=without_settings(), capture_output=True, text=True, check=False)


def copy_checkout(directory: Path) -> None:
    """Put the files that git knows there, as they are now, and nothing that was made beside them."""
    for name in run_in(CHECKOUT, "git", "ls-files", "-z").stdout.rstrip("\0").split("\0"):
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / name, target)


@dataclass(frozen=True)
class MadeUp:
    """A copy of the checkout in which "make up" ran, and what it said."""

    directory: Path
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def made_up(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MadeUp]:
    """A fresh copy of the checkout, without .env and without an environment, after "make up" and nothing else."""
    directory = tmp_path_factory.mktemp("first-run")
    copy_checkout(directory)
    try:
        done = run_in(directory, "make", "up")
        assert done.returncode == 0, done.stdout + done.stderr
        yield MadeUp(directory, done.stdout, done.stderr)
    finally:
        run_in(directory, "docker", "compose", "down", "--volumes", "--timeout", "5")


@pytest.fixture(scope="session")
def env_example(made_up: MadeUp) -> Path:
    """A directory with env.example as its .env, built and up."""
    return made_up.directory


@pytest.fixture(scope="session")
def stack_of_env_example(env_example: Path) -> Iterator[DockerCompose]:
    """Its stack, up and healthy: "docker compose up --wait" ended with 0."""
    with DockerCompose(env_example, wait=True) as compose:
        yield compose
