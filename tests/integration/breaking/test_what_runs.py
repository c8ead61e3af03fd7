"""What runs is what the last "docker compose up" saw, whatever is built, edited, restarted or taken back meanwhile."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from integration.conftest import MAILSTACK, run_in
from mailstack.tasks import written
from mailstack.world.containers import wait_for

SETTINGS = (
    "MAILSTACK_HOSTNAME=mail.india.example\nMAILSTACK_DOMAINS=india.example\nMAILSTACK_MAILBOXES=user@india.example\n"
    "MAILSTACK_PUBLISH_ADDRESSES=\nMAILSTACK_SUBNET=10.99.8.0/27\n"
)
TRUSTED = "MAILSTACK_TRUSTED_NETWORKS=192.0.2.0/24\n"
UP = ("docker", "compose", "up", "--detach", "--wait")


@pytest.fixture(scope="module")
def directory(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A site that is up, without a published port."""
    directory = tmp_path_factory.mktemp("india")
    (directory / ".env").write_text(SETTINGS)
    try:
        must(directory, *MAILSTACK, "build")
        must(directory, *UP)
        yield directory
    finally:
        run_in(directory, "docker", "compose", "down", "--volumes", "--timeout", "5")


@pytest.fixture(autouse=True)
def as_at_first(directory: Path) -> Iterator[None]:
    yield
    (directory / ".env").write_text(SETTINGS)
    must(directory, *MAILSTACK, "build")
    must(directory, *UP)


def must(directory: Path, *command: str) -> subprocess.CompletedProcess[str]:
    done = run_in(directory, *command)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def status(directory: Path) -> tuple[int, str]:
    done = run_in(directory, *MAILSTACK, "status")
    return done.returncode, done.stderr


def container(directory: Path, service: str) -> str:
    return must(directory, "docker", "compose", "ps", "--quiet", service).stdout.strip()


def trusts(directory: Path) -> bool:
    """Whether the Postfix that runs trusts the network."""
    shown = must(directory, "docker", "compose", "exec", "-T", "postfix", "postconf", "-h", "mynetworks").stdout
    return "192.0.2.0/24" in shown


def restarted(directory: Path, client: docker.DockerClient) -> None:
    """By compose, then by the engine after a crash."""
    must(directory, "docker", "compose", "restart")
    postfix = client.containers.get(container(directory, "postfix"))
    wait_for(lambda: postfix.reload() or postfix.attrs["State"]["Health"]["Status"] == "healthy", "it is not healthy")
    starts, pid = postfix.attrs["RestartCount"], postfix.attrs["State"]["Pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for(
        lambda: (
            postfix.reload()
            or (postfix.attrs["RestartCount"] > starts and postfix.attrs["State"]["Health"]["Status"] == "healthy")
        ),
        "the engine does not start it again",
    )


def test_a_setting_that_no_up_has_seen(directory: Path, engine_client: docker.DockerClient) -> None:
    """What is built is not in force before "up", restart or crash; taken out again, it never was."""
    (directory / ".env").write_text(SETTINGS + TRUSTED)
    must(directory, *MAILSTACK, "build")
    restarted(directory, engine_client)
    assert not trusts(directory)
    code, said = status(directory)
    assert code == 5
    assert "compose up -d --wait" in said
    (directory / ".env").write_text(SETTINGS)
    must(directory, *MAILSTACK, "build")
    before = container(directory, "postfix")
    must(directory, *UP)
    assert container(directory, "postfix") == before
    assert not trusts(directory)
    assert status(directory)[0] == 0


def test_a_setting_that_was_in_force(directory: Path, engine_client: docker.DockerClient) -> None:
    """After "up" it is in force; built without it, it is so until the next "up", and status says so."""
    (directory / ".env").write_text(SETTINGS + TRUSTED)
    must(directory, *MAILSTACK, "build")
    assert must(directory, *UP)
    assert trusts(directory)
    (directory / ".env").write_text(SETTINGS)
    assert "changed since the last build" in status(directory)[1]
    must(directory, *MAILSTACK, "build")
    # Two builds later the files of a container that still runs are still there.
    (directory / ".env").write_text(SETTINGS + "MAILSTACK_MESSAGE_SIZE=20MiB\n")
    must(directory, *MAILSTACK, "build")
    (directory / ".env").write_text(SETTINGS)
    must(directory, *MAILSTACK, "build")
    restarted(directory, engine_client)
    assert trusts(directory)
    assert status(directory)[0] == 5
    must(directory, *UP)
    assert not trusts(directory)
    assert status(directory)[0] == 0


@pytest.mark.parametrize("mended", ["by the build", "by hand"])
def test_an_edited_file(directory: Path, engine_client: docker.DockerClient, mended: str) -> None:
    """A file of .mailstack that was edited is found by status; what a container took of it ends with build and "up"."""
    (place,) = [one for one in written.read(directory).places if "/postfix/" in one]
    file = directory / place / "etc/postfix/main.cf"
    text = file.read_text()
    file.write_text(text.replace("mynetworks = ", "mynetworks = 192.0.2.0/24, "))
    restarted(directory, engine_client)
    assert trusts(directory)
    assert "changed since the last build" in status(directory)[1]
    must(directory, *MAILSTACK, "build")
    if mended == "by hand":
        file.write_text(text)
        must(directory, *MAILSTACK, "build")
    assert status(directory)[0] == 5
    must(directory, *UP)
    assert not trusts(directory)
    assert status(directory)[0] == 0


def test_a_key_that_no_up_has_seen(directory: Path) -> None:
    """OpenDKIM does not start with a key that was made since: nothing is signed by it before "up", and mail waits."""
    for path in (directory / "secrets/dkim").iterdir():
        path.unlink()
    must(directory, *MAILSTACK, "build")
    run_in(directory, "docker", "compose", "restart", "opendkim")
    said = "is damaged or does not match its DNS record"
    wait_for(lambda: said in run_in(directory, "docker", "compose", "logs", "opendkim").stdout, "it has started")
    assert status(directory)[0] == 5
    must(directory, *UP)
    assert status(directory)[0] == 0


def test_roll_back(directory: Path) -> None:
    """The build before comes back with its files, and a second time the later one; only its services are recreated."""
    resolver = container(directory, "resolver")
    (directory / ".env").write_text(SETTINGS + TRUSTED)
    must(directory, *MAILSTACK, "build")
    must(directory, *UP)
    must(directory, *MAILSTACK, "build", "--rollback")
    must(directory, *UP)
    assert not trusts(directory)
    # The settings are those of the later build, and status knows.
    assert "changed since the last build" in status(directory)[1]
    must(directory, *MAILSTACK, "build", "--rollback")
    must(directory, *UP)
    assert trusts(directory)
    assert status(directory)[0] == 0
    assert container(directory, "resolver") == resolver


def test_files_that_nothing_uses_are_removed(directory: Path) -> None:
    """Only the files of this build, the one before, and of containers are kept."""
    for size in range(20, 24):
        (directory / ".env").write_text(f"{SETTINGS}MAILSTACK_MESSAGE_SIZE={size}MiB\n")
        must(directory, *MAILSTACK, "build")
        must(directory, *UP)
    there = {one.relative_to(directory).as_posix() for one in (directory / ".mailstack/postfix").iterdir()}
    now, before = written.read(directory).places, written.read(directory, ".mailstack/previous.yaml").places
    assert there == {one for one in now | before if "/postfix/" in one}
    assert len(there) == 2


def test_a_build_that_cannot_come_back(directory: Path, tmp_path: Path) -> None:
    """Without an earlier build, or without its files, nothing is changed, and the reason is said."""
    done = run_in(tmp_path, *MAILSTACK, "build", "--rollback")
    assert done.returncode == 1
    assert "there is no earlier build to go back to" in done.stderr
    shutil.copytree(directory, tmp_path / "copy")
    copy = tmp_path / "copy"
    (copy / ".env").write_text(SETTINGS + TRUSTED)
    must(copy, *MAILSTACK, "build")
    gone = written.read(copy, ".mailstack/previous.yaml").places - written.read(copy).places
    for place in gone:
        shutil.rmtree(copy / place)
    before = (copy / "compose.yaml").read_bytes()
    done = run_in(copy, *MAILSTACK, "build", "--rollback")
    assert done.returncode == 1
    assert "does not exist, so the earlier build cannot run" in done.stderr
    assert (copy / "compose.yaml").read_bytes() == before
