"""The documents' commands and examples do what the documents say."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest

from integration.conftest import CHECKOUT, without_settings
from mailstack.world.containers import wait_for

DOCUMENTS = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]

# Commands that this suite runs elsewhere, or why they cannot be run.
ELSEWHERE = {
    "git clone … mailstack && cd mailstack": "where it comes from is not part of the project",
    "make up": "tests/integration/judging/test_first_run.py::test_make_up_says_what_runs_and_what_comes_next",
    "python3 -m venv ~/mailstack-venv && . ~/mailstack-venv/bin/activate": "tests/integration/judging/test_wheel.py::test_the_wheel_renders_the_same",
    "pip install .": "tests/integration/judging/test_wheel.py::test_the_wheel_renders_the_same",
    "mailstack init": "tests/unit/builder/test_cli.py::test_init_asks_until_an_answer_is_right",
    "docker build --tag acme acme/": "tests/integration/judging/test_acme.py::test_issued_and_renewed",
    "make test": "this is it",
}

# docker-mailserver's directory, as it documents its files.
OLD = {
    "postfix-accounts.cf": "user@example.com|{SHA512-CRYPT}$6$salt$hash\ninfo@example.net|{SHA512-CRYPT}$6$salt$hash\n",
    "postfix-virtual.cf": "sales@example.com user@example.com\nall@example.com user@example.com,info@example.net\n"
    "@example.net\tuser@example.com, info@example.net\n",
}


@dataclass(frozen=True)
class Example:
    """A command of a document with the output that stands below it, or a file with the name that it is to have."""

    document: str
    line: int
    text: str
    output: tuple[str, ...] = ()
    file: str | None = None


def examples(document: Path) -> list[Example]:
    """What stands between fences: commands after "$ " in console blocks, files in blocks that name one."""
    found: list[Example] = []
    kind, start, lines = None, 0, []
    for number, line in enumerate(document.read_text().splitlines(), 1):
        if not line.startswith("```"):
            lines.append(line)
        elif kind is None:
            kind, start, lines = line[3:].split(), number, []
        else:
            if kind == ["console"]:
                found += commands(document.name, start, lines)
            elif len(kind) == 2:
                found.append(Example(document.name, start, "\n".join(lines) + "\n", file=kind[1]))
            kind = None
    return found


def commands(document: str, start: int, lines: list[str]) -> list[Example]:
    """A command goes on in lines that are indented, or that close what it opened; the rest is its output."""
    found: list[list[str]] = []
    outputs: list[list[str]] = []
    for line in lines:
        if line.startswith("$ "):
            found.append([line[2:]])
            outputs.append([])
        elif not outputs[-1] and re.match(r" {4}|  done", line):
            found[-1].append(line)
        else:
            outputs[-1].append(line)
    return [
        Example(document, start, "\n".join(command), tuple(output))
        for command, output in zip(found, outputs, strict=True)
    ]


ALL = [one for document in DOCUMENTS for one in examples(document)]
# These belong together and end a stack, so they have one of their own.
UPKEEP = [one for one in ALL if one.document == "upkeep.md"]
# These make a site together, which test_dovecot.py tries; an override can be tried alone.
DOVECOT = [one for one in ALL if one.document == "dovecot.md" and not (one.file or "").startswith("overrides/")]
COMMANDS = [one for one in ALL if one.file is None and one.text not in ELSEWHERE and one not in UPKEEP + DOVECOT]
FILES = [one for one in ALL if one.file is not None and one not in DOVECOT]


def run(directory: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a person types it, with mailstack on the PATH; what it says comes together."""
    environment = without_settings()
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory, env_example: Path) -> Path:
    """A site's directory with a copy of docker-mailserver's config/ in it."""
    directory = tmp_path_factory.mktemp("moving")
    (directory / "config").mkdir()
    for name, text in OLD.items():
        (directory / "config" / name).write_text(text)
    (key,) = (env_example / "secrets/dkim").glob("default.*.pem")
    for domain in ("example.com", "example.net"):
        (directory / f"config/opendkim/keys/{domain}").mkdir(parents=True)
        shutil.copy(key, directory / f"config/opendkim/keys/{domain}/mail.private")
    (directory / ".env").write_text(
        "MAILSTACK_HOSTNAME=mail.example.com\nMAILSTACK_DOMAINS=example.com,example.net\n"
        "MAILSTACK_MAILBOXES_FILE=mailboxes\nMAILSTACK_ALIASES_FILE=aliases\nMAILSTACK_DKIM_SELECTOR=mail\n"
        "MAILSTACK_DKIM_KEYS=per-domain\n"
    )
    return directory


def test_documents_have_examples() -> None:
    """There is something to try, and what is said to be tried elsewhere still stands in a document."""
    assert len(COMMANDS) > 8
    assert len(FILES) > 4
    assert ELSEWHERE.keys() <= {one.text for one in ALL}


@pytest.mark.parametrize("example", COMMANDS, ids=lambda one: f"{one.document}:{one.line}: {one.text.splitlines()[0]}")
def test_command(example: Example, stack_of_env_example: object, env_example: Path, moving: Path) -> None:
    """It ends with 0, and says what the document shows; "…" stands for anything."""
    directory = moving if example.document == "from-docker-mailserver.md" else env_example
    if "/Maildir/new/" in example.text:
        # A person who types this has given the message before it the time that it takes.
        wait_for(lambda: run(directory, example.text).returncode == 0, "nothing is in the mailbox")
    done = run(directory, example.text)
    assert done.returncode == 0, done.stdout
    assert_shows(done.stdout, example)


def assert_shows(said: str, example: Example) -> None:
    for line in example.output:
        pattern = ".*".join(map(re.escape, line.split("…")))
        assert re.search(pattern, said), said


def test_what_was_moved(moving: Path, stack_of_env_example: object) -> None:
    """After the commands of the move the site has the addresses, aliases and keys of the old one."""
    shown = run(moving, "mailstack config show").stdout
    assert "user@example.com,info@example.net" in shown
    assert "sales@example.com=user@example.com,all@example.com=user@example.com,all@example.com=info@ex" in shown
    assert "*@example.net=user@example.com,*@example.net=info@example.net" in shown
    kept = (moving / "config/opendkim/keys/example.net/mail.private").read_bytes()
    assert (moving / "secrets/dkim/mail._domainkey.example.net.pem").read_bytes() == kept
    built = run(moving, "mailstack build")
    assert built.returncode == 0, built.stdout
    assert "\nmail._domainkey.example.net. 3600 IN TXT" in built.stdout


@pytest.fixture
def kept(engine: None, tmp_path: Path) -> Iterator[Path]:
    """A site of its own, up, with one message in a mailbox and one in the queue."""
    (tmp_path / ".env").write_text(
        "MAILSTACK_HOSTNAME=mail.upkeep.example\nMAILSTACK_DOMAINS=upkeep.example\n"
        "MAILSTACK_MAILBOXES=user@upkeep.example\nMAILSTACK_PUBLISH_ADDRESSES=\nMAILSTACK_SUBNET=10.99.7.0/27\n"
        # Nobody answers there (RFC 5737): what is sent waits.
        "MAILSTACK_RELAY_HOST=192.0.2.99\n"
    )
    try:
        # So that there is an earlier build.
        assert run(tmp_path, "MAILSTACK_MESSAGE_SIZE=20MiB mailstack build").returncode == 0
        assert run(tmp_path, "mailstack build && docker compose up -d --wait").returncode == 0
        for recipient in ("user@upkeep.example", "user@elsewhere.example"):
            line = f"printf 'Subject: kept\n\nText.\n' | docker compose exec -T postfix sendmail {recipient}"
            assert run(tmp_path, line).returncode == 0
        wait_for(lambda: both_are_there(tmp_path), "the messages are not where they belong")
        yield tmp_path
    finally:
        run(tmp_path, "docker compose down --volumes --timeout 5")


def both_are_there(site: Path) -> bool:
    """Whether one message is in the mailbox, and one in the queue."""
    mailed = run(site, "docker compose exec -T postfix sh -c 'cat /var/vmail/upkeep.example/user/Maildir/new/*'").stdout
    queued = run(site, "docker compose exec -T postfix mailq").stdout
    return mailed.count("Subject: kept") == 1 and queued.count("user@elsewhere.example") == 1


def test_upkeep(kept: Path) -> None:
    """In their order, in one site: the removed stack comes back from the backup with its mail, queue and key."""
    (key,) = (kept / "secrets/dkim").glob("default.*.pem")
    whole = key.read_bytes()
    for example in UPKEEP:
        if example.text == "mailstack restore site.tar":
            for path in kept.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
                elif path.suffix != ".tar":
                    path.unlink()
        done = run(kept, example.text)
        assert done.returncode == 0, done.stdout
        assert_shows(done.stdout, example)
    assert key.read_bytes() == whole
    assert both_are_there(kept)


def test_restart_of_what_hangs(kept: Path, engine_client: docker.DockerClient) -> None:
    """The documented command restarts a service that is unhealthy, and no other; the unit for systemd has the same one."""
    command = next(one.text for one in UPKEEP if "unhealthy" in one.text)
    assert f'ExecStart=/bin/sh -c "{command}"' in (CHECKOUT / "docs/upkeep.md").read_text()
    resolver, postfix = (run(kept, f"docker compose ps -q {one}").stdout.strip() for one in ("resolver", "postfix"))

    def state(container: str) -> dict[str, Any]:
        found: dict[str, Any] = engine_client.api.inspect_container(container)["State"]
        return found

    before = state(postfix)["StartedAt"]
    engine_client.containers.get(resolver).kill("SIGSTOP")
    wait_for(lambda: state(resolver)["Health"]["Status"] == "unhealthy", "it is not unhealthy", 60)
    telling = next(one.text for one in UPKEEP if "status.txt" in one.text)
    assert "resolver     running unhealthy" in run(kept, telling).stdout
    done = run(kept, command)
    assert done.returncode == 0, done.stdout
    wait_for(lambda: state(resolver)["Health"]["Status"] == "healthy", "it is not healthy again", 60)
    assert state(postfix)["StartedAt"] == before
    wait_for(lambda: run(kept, telling).stdout == "", "something is told about a site that is well", 60)


@pytest.mark.parametrize("example", FILES, ids=lambda one: f"{one.document}:{one.line}: {one.file}")
def test_file(example: Example, engine: None, tmp_path: Path) -> None:
    """A site with the file is built: the program that reads it takes it."""
    shutil.copy(CHECKOUT / "env.example", tmp_path / ".env")
    (tmp_path / example.file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / example.file).write_text(example.text)
    done = run(tmp_path, "mailstack build")
    assert done.returncode == 0, done.stdout
