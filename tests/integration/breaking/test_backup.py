"""A backup of a stack that runs and receives, and what comes back of it."""

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from integration.breaking.test_health import wait_healthy
from integration.breaking.test_outage import Stream, assert_once_and_signed
from integration.conftest import MAILSTACK, run_in
from mailstack.dns.records import records
from mailstack.world.containers import Machine, wait_for
from mailstack.world.internet import Internet
from mailstack.world.site import Site
from support import address_of, delivered, flush_until_delivered, message, send, subject, subject_of

MAILBOX, ELSEWHERE = "user@foxtrot.example", "user@bravo.example"


def mailstack(directory: Path, *arguments: str) -> str:
    """A command that must succeed; its stdout."""
    done = run_in(directory, *MAILSTACK, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def queued(site: Site) -> dict[str, dict[str, Any]]:
    """What waits, by its queue id."""
    return {one["id"]: one for one in json.loads(mailstack(site.directory, "queue", "list", "--json"))}


def items(directory: Path, file: Path) -> dict[str, dict[str, Any]]:
    listed = json.loads(mailstack(directory, "backup", "--list", "--json", str(file)))
    return {one["name"]: one for one in listed["items"]}


@pytest.fixture
def waiting(foxtrot: Site, bravo: Site, insider: Machine) -> Iterator[tuple[str, str]]:
    """Two messages for bravo, which does not answer: one is on hold, one deferred."""
    wait_healthy(foxtrot)
    foxtrot.run("postfix", "postsuper", "-d", "ALL")
    bravo.compose("stop", "postfix")
    try:
        held, deferred = subject("on hold"), subject("deferred")
        for about in (held, deferred):
            content = message(MAILBOX, ELSEWHERE, about)
            assert send(insider, address_of(foxtrot), MAILBOX, ELSEWHERE, content, port=587).code == 250
            wait_for(
                lambda: {one["queue"] for one in queued(foxtrot).values()} <= {"hold", "deferred"},
                "it is not deferred",
                60,
            )
            if about == held:
                mailstack(foxtrot.directory, "queue", "hold", "--all")
        yield held, deferred
    finally:
        bravo.up()


def read_by(client: docker.DockerClient, site: Site) -> list[str]:
    """The containers that have the site's mail mounted, but for its own."""
    found = client.containers.list(all=True, filters={"volume": f"{site.stack.project}_mail"}, ignore_removed=True)
    return [str(one.name) for one in found if str(one.id) not in site.containers().values()]


def assert_all_once(site: Site, sent: list[str], at_most: list[str]) -> None:
    """Each of these is in the mailbox once, and no other message twice."""
    wait_for(
        lambda: not [one for one in queued(site).values() if one["recipients"][0]["address"] == MAILBOX],
        "the queue still has mail for the mailbox",
        60,
    )
    there = Counter(map(subject_of, site.mail(MAILBOX)))
    assert [one for one in sent if there[one] != 1] == []
    assert [one for one in at_most if there[one] > 1] == []


def test_a_site_comes_back(
    world: Internet,
    foxtrot: Site,
    bravo: Site,
    insider: Machine,
    outsider: Machine,
    waiting: tuple[str, str],
    engine_client: docker.DockerClient,
    tmp_path: Path,
) -> None:
    """Backed up under a stream, removed, restored: keys, mail and queue are there, nothing is lost or comes twice."""
    file = tmp_path / "site.tar.gz"
    (foxtrot.directory / ".env").write_text("# of foxtrot\n")
    before = records(foxtrot.stack)
    with (
        Stream(insider, foxtrot, MAILBOX, MAILBOX, 587) as submitted,
        Stream(outsider, foxtrot, "someone@listed.example", MAILBOX, 25) as inbound,
    ):
        wait_for(lambda: len(submitted.accepted) > 3 and len(inbound.accepted) > 3, "mail does not flow")
        sure = submitted.accepted + inbound.accepted
        mailstack(foxtrot.directory, "backup", str(file))
        counts = len(submitted.accepted), len(inbound.accepted)
        wait_for(
            lambda: len(submitted.accepted) > counts[0] + 3 and len(inbound.accepted) > counts[1] + 3,
            "mail does not flow any more",
        )
    assert submitted.refused + inbound.refused == []
    assert file.stat().st_mode & 0o777 == 0o600
    assert read_by(engine_client, foxtrot) == []
    listed = items(tmp_path, file)
    assert listed["queue"]["places"].items() >= {"hold": 1, "deferred": 1}.items()
    sent = submitted.accepted + inbound.accepted
    assert_all_once(foxtrot, sent, [])

    # One that is there is left alone.
    done = run_in(tmp_path, *MAILSTACK, "restore", str(file))
    assert (done.returncode, "has containers already" in done.stderr) == (1, True)
    foxtrot.remove_containers()
    done = run_in(tmp_path, *MAILSTACK, "restore", str(file))
    assert (done.returncode, f"docker volume rm {foxtrot.stack.project}_" in done.stderr) == (1, True)
    assert [one.name for one in tmp_path.iterdir()] == [file.name]

    foxtrot.down()
    place = (foxtrot.directory / "compose.place.yaml").read_text()
    shutil.rmtree(foxtrot.directory)
    foxtrot.directory.mkdir()
    mailstack(foxtrot.directory, "restore", str(file))
    assert (foxtrot.directory / ".env").read_text() == "# of foxtrot\n"
    (foxtrot.directory / "compose.place.yaml").write_text(place)
    foxtrot.build(foxtrot.environment)
    assert records(foxtrot.stack) == before
    foxtrot.up()
    assert foxtrot.run("postfix", "sh", "-c", "postfix check 2>&1") == b""
    assert not [one for one in foxtrot.log("postfix") if "changing the owner" in one]
    assert_all_once(foxtrot, sure, sent)

    # What waits goes out, with the signature of the key that is published.
    assert sorted(one["queue"] for one in queued(foxtrot).values()) == ["deferred", "hold"]
    bravo.up()
    mailstack(foxtrot.directory, "queue", "release", "--all")
    for about in waiting:
        arrived = flush_until_delivered(foxtrot, bravo, ELSEWHERE, about)
        assert_once_and_signed(arrived, bravo, ELSEWHERE, world)
    later = subject("after the restore")
    content = message(MAILBOX, ELSEWHERE, later)
    assert send(insider, address_of(foxtrot), MAILBOX, ELSEWHERE, content, port=587).code == 250
    assert_once_and_signed(delivered(bravo, ELSEWHERE, later), bravo, ELSEWHERE, world)

    # Postfix need not run for a backup.
    foxtrot.compose("stop")
    mailstack(foxtrot.directory, "backup", "--replace", str(file))
    assert items(tmp_path, file)["mail"]["messages"] == len(foxtrot_mail(engine_client, foxtrot, world))
    foxtrot.up()


def foxtrot_mail(client: docker.DockerClient, site: Site, world: Internet) -> list[str]:
    """The files of all messages in a site that is down."""
    volume = {f"{site.stack.project}_mail": {"bind": "/volume", "mode": "ro"}}
    command = ["sh", "-c", "find /volume -type f -path '*/new/*' -o -type f -path '*/cur/*'"]
    return client.containers.run(world.image, command, user="0", volumes=volume, remove=True).decode().splitlines()


def test_a_backup_that_is_killed(foxtrot: Site, outsider: Machine, engine_client: docker.DockerClient) -> None:
    """Postfix goes on, and what was reading ends by itself."""
    wait_healthy(foxtrot)
    sender = "someone@listed.example"
    large = message(sender, MAILBOX, subject("large"), body="A long line of a long body.\r\n" * 100_000)
    assert send(outsider, address_of(foxtrot), sender, MAILBOX, large).code == 250
    wait_for(lambda: queued(foxtrot) == {}, "it is not delivered")
    with subprocess.Popen(
        [*MAILSTACK, "backup", "-"], cwd=foxtrot.directory, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as command:
        assert command.stdout
        assert command.stdout.read(1)
        # It reads no more; what it is to write fits nowhere.
        wait_for(lambda: read_by(engine_client, foxtrot), "nothing reads the volumes")
        command.kill()
    wait_for(lambda: not read_by(engine_client, foxtrot), "what read the volumes does not end", 60)
    about = subject("afterwards")
    assert send(outsider, address_of(foxtrot), sender, MAILBOX, message(sender, MAILBOX, about)).code == 250
    delivered(foxtrot, MAILBOX, about)
