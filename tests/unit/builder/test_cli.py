"""The command without an engine: a first .env, what is in force, what is wrong; exit codes, and no traceback."""

import dataclasses
import errno
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from mailstack import compose, reading
from mailstack.cli.app import main
from mailstack.cli.status import status_text
from mailstack.engine import status as engine_status
from mailstack.keys import dkim, ring
from mailstack.services import SERVICE_NAMES
from mailstack.settings import reference
from mailstack.settings.environment import read_environment
from mailstack.settings.load import load
from mailstack.tasks.load import make_secrets
from mailstack.tasks.status import status_data
from unit.sites import stack


@pytest.fixture(autouse=True)
def in_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str, typed: str = "", **environment: str) -> Result:
    return CliRunner().invoke(main, arguments, input=typed, env=environment)


def make_keys(directory: Path, **given: str) -> None:
    """What a build does first."""
    make_secrets(directory, load(read_environment(directory, given)))


FLAGS = ["--hostname", "mail.example.com", "--domains", "example.com", "--mailboxes", "user@example.com"]


def test_init_by_flags(tmp_path: Path) -> None:
    """With all flags nothing is asked, and the .env that is written is private and loads as it stands."""
    done = run("init", *FLAGS)
    assert (done.exit_code, done.stdout) == (0, "")
    chosen = load(read_environment(tmp_path, {}))
    assert (chosen.hostname, chosen.domains, chosen.mailboxes) == (
        "mail.example.com",
        ("example.com",),
        ("user@example.com",),
    )
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600


def test_status_with_wrong_settings() -> None:
    """It says that nothing was looked at, and what shows the services meanwhile."""
    done = run("status", MAILSTACK_SPF_FAIL="nope")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "MAILSTACK_SPF_FAIL: 'nope'" in done.stderr
    assert compose.spoken("service status was not checked; see 'docker compose ps'") in done.stderr


def test_init_quotes(tmp_path: Path) -> None:
    """What has a meaning to compose or a shell is quoted, and read back as it was typed."""
    for mailbox in (
        "o'neil@example.com",
        "cash$x@example.com",
        "a#b@example.com",
        "a?b~c@example.com",
        "o'$x'@a.example",
    ):
        domain = mailbox.rpartition("@")[2]
        assert run("init", *FLAGS[:3], domain, "--mailboxes", mailbox).exit_code == 0
        assert load(read_environment(tmp_path, {})).mailboxes == (mailbox,)
        (tmp_path / ".env").unlink()


@given(st.text(st.characters(exclude_characters="\r\0", exclude_categories=["Cs"])))
def test_quoted_values_are_read_back(tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
    """Whatever is written into .env is read from it again."""
    directory = tmp_path_factory.getbasetemp()
    (directory / ".env").write_text(f"MAILSTACK_MAILBOXES={reference.quoted(value)}\n")
    assert read_environment(directory, {}) == {"MAILSTACK_MAILBOXES": value}
    (directory / ".env").unlink()


def test_debug_changes_no_exit_code() -> None:
    """It adds the traceback to the one line, and nothing else is different."""
    for arguments, code in ((["config", "check"], 2), (["build"], 2)):
        plain, debug = run(*arguments), run("--debug", *arguments)
        assert plain.exit_code == debug.exit_code == code
        assert "Traceback" not in plain.stderr
        assert "Traceback" in debug.stderr
        assert debug.stderr.endswith(plain.stderr)


@pytest.mark.parametrize(("value", "colours"), [(None, True), ("", True), ("1", False)])
def test_no_color(value: str | None, *, colours: bool) -> None:
    """On a terminal "error:" has a colour, unless NO_COLOR is set to something."""
    done = CliRunner().invoke(main, ["config", "check"], env={"NO_COLOR": value}, color=True)
    assert ("\x1b[" in done.stderr) == colours


def test_stopped_while_it_starts(tmp_path: Path) -> None:
    """Ctrl-C before the command line is read is one line and the exit code of a shell, as later on."""
    command = [sys.executable, "-X", "importtime", "-m", "mailstack", "config", "check"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        # The interpreter says what it has loaded: our own first module, and something later.
        seen = [next(line for line in process.stderr if f" {name}" in line) for name in ("mailstack.errors", "click.")]
        process.send_signal(signal.SIGINT)
        rest = [line for line in process.stderr if not line.startswith("import time:")]
    assert len(seen) == 2
    assert rest == ["error: interrupted; no unfinished files remain. Run the command again to continue\n"]
    assert process.returncode == 130


def test_status_before_the_first_start() -> None:
    """Nothing that was never started is said not to answer."""
    services = [
        engine_status.Service(name, engine_status.NOT_THERE, "", "image", 0, current=False) for name in SERVICE_NAMES
    ]
    text = status_text(status_data(stack(), services, None, {}, {}, built=True))
    assert "queue      not started" in text
    services[0] = dataclasses.replace(services[0], state="running")
    text = status_text(status_data(stack(), services, None, {}, {}, built=True))
    assert "queue      Postfix does not answer" in text


def test_init_asks_until_an_answer_is_right(tmp_path: Path) -> None:
    """A wrong answer is explained and asked for again, with what was answered before in mind."""
    done = run("init", typed="\nmail\nmail.example.com\nexample.com\ninfo@example.org\ninfo@example.com\n")
    assert done.exit_code == 0
    assert "MAILSTACK_HOSTNAME: is not set" in done.stderr
    assert "MAILSTACK_HOSTNAME: 'mail': is not fully qualified" in done.stderr
    assert "add example.org to MAILSTACK_DOMAINS" in done.stderr
    assert load(read_environment(tmp_path, {})).mailboxes == ("info@example.com",)


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    """A .env that is there stays as it is."""
    (tmp_path / ".env").write_text("mine")
    done = run("init", *FLAGS)
    assert done.exit_code == 1
    assert "already exists; edit it" in done.stderr
    assert (tmp_path / ".env").read_text() == "mine"


def test_init_with_wrong_flags(tmp_path: Path) -> None:
    """Wrong flags are reported together, and nothing is written."""
    done = run("init", "--hostname", "mail", "--domains", "*", "--mailboxes", "user")
    assert done.exit_code == 2
    for token in ("'mail'", "'*'", "'user'"):
        assert token in done.stderr
    assert not (tmp_path / ".env").exists()


def test_init_that_is_broken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of input is told with the flags that answer; Ctrl-C ends with 130; neither writes anything."""
    done = run("init", typed="mail.example.com\n")
    assert done.exit_code == 2
    assert "use --hostname, --domains, --mailboxes" in done.stderr

    def interrupted(*_: object, **__: object) -> None:
        raise click.Abort

    monkeypatch.setattr(click, "prompt", interrupted)
    done = run("init")
    assert done.exit_code == 130
    assert "interrupted" in done.stderr
    assert not (tmp_path / ".env").exists()


def test_config_show(tmp_path: Path) -> None:
    """Every setting has one row with its value as it would be written, and its source."""
    run("init", *FLAGS)
    (tmp_path / "aliases").write_text("# ours\ninfo@example.com=user@example.com\n")
    given = {"MAILSTACK_ALIASES_FILE": "aliases", "MAILSTACK_DELIVERY": "lmtp:192.0.2.24"}
    rows = {row["variable"]: row for row in json.loads(run("config", "show", "--json", **given).stdout)}
    expected = {
        "MAILSTACK_HOSTNAME": ("mail.example.com", ".env"),
        "MAILSTACK_ALIASES": ("info@example.com=user@example.com", "aliases"),
        "MAILSTACK_DELIVERY": ("lmtp:192.0.2.24:24", "environment"),
        "MAILSTACK_PORT_SMTP": ("25", "default"),
    }
    assert {name: (rows[name]["value"], rows[name]["source"]) for name in expected} == expected
    shown = run("config", "show", **given).stdout
    assert [line.split()[0] for line in shown.splitlines()] == list(rows)


def test_what_config_show_prints_can_be_set() -> None:
    """The values in force, set again as they are shown, are the same settings."""
    run("init", *FLAGS)
    given = {
        "MAILSTACK_ALIASES": "info@example.com=user@example.com",
        "MAILSTACK_RELAY_HOST": "[smtp.example.net]:587",
        "MAILSTACK_SIGN_SUBDOMAINS": "no",
        "MAILSTACK_TRUSTED_NETWORKS": "192.0.2.7,2001:db8::/32",
        "MAILSTACK_RESOLVER_FORWARDERS": "192.0.2.53,192.0.2.54@5353",
    }
    first = json.loads(run("config", "show", "--json", **given).stdout)
    again = {row["variable"]: row["value"] for row in first if row["source"] == "environment"}
    assert json.loads(run("config", "show", "--json", **again).stdout) == first


@pytest.mark.parametrize("form", ["zone", "json"])
def test_what_is_needed_beside_the_records(tmp_path: Path, form: str) -> None:
    """A and PTR are asked for where no address is known, and an AAAA is warned of: as comments or beside stdout."""
    run("init", *FLAGS)
    make_keys(tmp_path)
    done = run("dns", "records", "--format", form)
    said = done.stdout if form == "zone" else done.stderr
    assert "A: an A record of mail.example.com with this host's address\n" in said
    assert "PTR: its address's PTR record is mail.example.com.; your provider sets it\n" in said
    assert "AAAA: no AAAA record of mail.example.com" in said
    assert form == "zone" or json.loads(done.stdout)
    done = run("dns", "records", "--format", form, MAILSTACK_PUBLIC_ADDRESSES="192.0.2.25,192.0.2.26")
    said = done.stdout if form == "zone" else done.stderr
    assert "an A record" not in said
    assert "PTR: 25.2.0.192.in-addr.arpa. PTR mail.example.com.; your provider sets it\n" in said


def test_records_of_one_zone(tmp_path: Path) -> None:
    """--zone has the records of that zone only, --ttl their time; another zone is an error that names those there are."""
    run("init", *FLAGS)
    make_keys(tmp_path)
    given = {"MAILSTACK_DOMAINS": "example.com,example.net"}
    done = run("dns", "records", "--zone", "example.net", "--ttl", "300", **given)
    lines = [one for one in done.stdout.splitlines() if not one.startswith(";")]
    assert {one.split()[0] for one in lines} == {
        "example.net.",
        "default._domainkey.example.net.",
        "default2._domainkey.example.net.",
        "_dmarc.example.net.",
    }
    assert {one.split()[1] for one in lines} == {"300"}
    done = run("dns", "records", "--zone", "example.org", **given)
    assert done.exit_code != 0
    assert "no record of this site lies in the zone example.org; its zones are: example.com, example.net" in str(
        done.stderr
    ) + str(done.exception)
    assert run("dns", "records", "--zone", "*.example.org", **given).exit_code == 2
    assert run("dns", "records", "--ttl", "-1", **given).exit_code == 2


def test_config_check_writes_nothing(tmp_path: Path) -> None:
    """A right site is said to be right, and not even a key is made."""
    run("init", *FLAGS)
    done = run("config", "check")
    assert (done.exit_code, done.stdout) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == [".env"]


def test_config_check_looks_at_keys_and_overrides(tmp_path: Path) -> None:
    """A damaged key, the spare one too, is found without an engine, and so is an override that goes nowhere."""
    run("init", *FLAGS)
    make_keys(tmp_path)
    key, spare = sorted(ring.on_disk(tmp_path))
    assert run("config", "check").exit_code == 0
    (tmp_path / "overrides/postfix").mkdir(parents=True)
    (tmp_path / "overrides/postfix/main.fc").write_text("x = y\n")
    done = run("config", "check")
    assert done.exit_code == 2
    assert "overrides/postfix/main.fc: is not used; possible names are postfix/main.cf" in (done.stderr)
    (tmp_path / "overrides/postfix/main.fc").unlink()
    for one in (spare, key):
        (tmp_path / one).write_text("cut")
        done = run("config", "check")
        assert done.exit_code == 3
        assert f"selector {one.name.partition('.')[0]}" in done.stderr


# Settings, the keys that lie there, and what is said of each that is not used.
SIGN = "To sign with it, set MAILSTACK_"
UNUSED = {
    "another selector": ({}, ["mail.example.com"], [f"{SIGN}DKIM_SELECTOR=mail; otherwise"]),
    "the second domain": (
        {"DKIM_SELECTOR": "mail"},
        ["mail.example.com", "mail.example.net"],
        [f"{SIGN}DKIM_KEYS=per-domain; otherwise"],
    ),
    "both": ({}, ["mail.example.net"], [f"{SIGN}DKIM_SELECTOR=mail and MAILSTACK_DKIM_KEYS=per-domain; otherwise"]),
    "a foreign domain": ({"DKIM_SELECTOR": "mail"}, ["mail.example.org"], ["add it to MAILSTACK_DOMAINS, or move"]),
    "a name that says nothing": ({}, [""], ["its name does not have the form SELECTOR._domainkey.DOMAIN.pem"]),
    "all are used": (
        {"DKIM_SELECTOR": "mail", "DKIM_KEYS": "per-domain"},
        ["mail.example.com", "mail.example.net", "mail.mail.example.com"],
        [],
    ),
}


@pytest.mark.parametrize("kind", UNUSED)
def test_key_that_nothing_uses(tmp_path: Path, kind: str) -> None:
    """A key that was brought along and is not used is warned about, with the settings that would use it."""
    chosen, keys, expected = UNUSED[kind]
    run("init", *FLAGS[:3], "example.com,example.net", *FLAGS[4:])
    given = {f"MAILSTACK_{name}": value for name, value in chosen.items()}
    dkim.make(tmp_path / "elsewhere", "example.com", "mail", 2048)
    (made,) = ring.on_disk(tmp_path / "elsewhere")
    (tmp_path / dkim.DIRECTORY).mkdir(parents=True)
    for key in keys:
        name = key.replace(".", "._domainkey.", 1) or "private"
        (tmp_path / dkim.DIRECTORY / f"{name}.pem").write_bytes((tmp_path / "elsewhere" / made).read_bytes())
    done = run("config", "check", **given)
    assert done.exit_code == 0
    said = [line for line in done.stderr.splitlines() if "is not used" in line]
    assert len(said) == len(expected)
    for line, words in zip(said, expected, strict=True):
        assert line.startswith("warning: secrets/dkim/")
        assert words in line


def test_key_of_an_earlier_selector(tmp_path: Path) -> None:
    """A key that was used once is told of while a new one is to take its place, and then no more."""
    run("init", *FLAGS)
    make_keys(tmp_path)
    first = run("config", "check", MAILSTACK_DKIM_SELECTOR="s2").stderr
    make_keys(tmp_path, MAILSTACK_DKIM_SELECTOR="s2")
    second = run("config", "check", MAILSTACK_DKIM_SELECTOR="s2").stderr
    assert "default._domainkey.example.com.pem is not used: the selector is 's2'" in first
    assert "is not used" not in second


@pytest.mark.parametrize(
    "command", [["build"], ["config", "check"], ["config", "show"], ["status"], ["dns", "records"], ["first-steps"]]
)
def test_wrong_settings(tmp_path: Path, command: list[str]) -> None:
    """Whatever the command, wrong settings end with 2 and text, and nothing is written."""
    (tmp_path / ".env").write_text("MAILSTACK_HOSTNAME=mail\nMAILSTACK_DOMAINS=*\nMAILSTACK_MAILBOXES=user\n")
    done = run(*command)
    assert (done.exit_code, done.stdout) == (2, "")
    assert len([line for line in done.stderr.splitlines() if line.startswith("error: MAILSTACK_")]) == 3
    assert [path.name for path in tmp_path.iterdir()] == [".env"]


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (
            "unix:///nonexistent/docker.sock",
            "no container engine answers at DOCKER_HOST=unix:///nonexistent/docker.sock; unset DOCKER_HOST",
        ),
        ("tcp://a:bc", "DOCKER_HOST=tcp://a:bc"),
        ("tcp://[::1", "DOCKER_HOST=tcp://[::1"),
        ("ssh://a.example", "DOCKER_HOST=ssh://a.example cannot be reached by ssh; log in to that host"),
        ("tcp://127.0.0.1:9", "tcp://127.0.0.1:9"),
    ],
)
def test_no_engine(tmp_path: Path, host: str, words: str) -> None:
    """An engine that is not there is named by its address, with what to do, and the exit code is 4."""
    run("init", *FLAGS)
    done = run("build", DOCKER_HOST=host)
    assert done.exit_code == 4
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "(Caused by" not in done.stderr


def test_first_steps_name_the_site() -> None:
    """The commands of a first message use the site's own mailbox, or its mailbox server."""
    run("init", *FLAGS)
    done = run("first-steps")
    assert "To: user@example.com" in done.stdout
    assert "/var/vmail/example.com/user/Maildir/new" in done.stdout
    assert "by lmtp:192.0.2.24:24" not in done.stdout
    done = run("first-steps", MAILSTACK_DELIVERY="lmtp:192.0.2.24")
    assert "192.0.2.24:24" in done.stdout
    assert "/var/vmail" not in done.stdout


def test_init_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written whole is not there at all, so that the next try is not refused."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    done = run("init", *FLAGS)
    assert done.exit_code == 1
    assert f"{tmp_path / '.env'}: cannot be written: No space left on device" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_was_removed(tmp_path: Path) -> None:
    """In a directory that is gone every command says so."""
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    done = run("config", "check")
    assert (done.exit_code, done.stderr) == (
        1,
        "error: the current directory was removed; change into one that exists\n",
    )


@pytest.mark.parametrize("command", [["build"], ["config", "check"], ["init", *FLAGS], ["base"]])
def test_what_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    """A .env in a closed directory, and whatever else the system refuses, is told by its path without a traceback."""
    (tmp_path / ".env").symlink_to("closed/env")

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "stat", refuse)
    done = run(*command)
    assert done.exit_code in {1, 2}
    assert f"{tmp_path}/" in done.stderr
    assert isinstance(done.exception, SystemExit)


def test_a_compose_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The build names the file."""
    run("init", *FLAGS)
    (tmp_path / "compose.yaml").write_text("name: x\n")
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "compose.yaml":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    done = run("build")
    assert done.exit_code == 1
    assert f"{tmp_path / 'compose.yaml'}: cannot be read: Permission denied" in done.stderr


@pytest.mark.parametrize("command", [["build"], ["config", "check"], ["status"]])
def test_overrides_hide_no_setting(tmp_path: Path, command: list[str]) -> None:
    """A stray override is reported together with wrong settings."""
    (tmp_path / ".env").write_text("MAILSTACK_HOSTNAME=mail\n")
    (tmp_path / "overrides").mkdir()
    (tmp_path / "overrides/stray").write_text("")
    done = run(*command)
    assert done.exit_code == 2
    assert "MAILSTACK_HOSTNAME: 'mail'" in done.stderr
    assert "overrides/stray: is not used" in done.stderr


@pytest.mark.parametrize("command", [["status"], ["first-steps"]])
def test_what_makes_no_key(tmp_path: Path, command: list[str]) -> None:
    """Commands that only tell make no key; of a site that was never built status says so."""
    run("init", *FLAGS)
    done = run(*command)
    assert [path.name for path in tmp_path.iterdir()] == [".env"]
    if command == ["status"]:
        assert (done.exit_code, done.stderr) == (
            1,
            "error: mail.example.com was not built with these settings; run: mailstack build\n",
        )


def test_first_steps_can_be_pasted(tmp_path: Path) -> None:
    """What a shell and printf make of the printed command is the message, whatever the address holds."""
    run("init", *FLAGS[:5], "o'brien@example.com")
    lines = run("first-steps").stdout.splitlines()
    printf = next(line for line in lines if "printf" in line).rstrip(" |")
    done = subprocess.run(["sh", "-c", printf], capture_output=True, text=True, check=True)
    assert "\nTo: o'brien@example.com\n" in done.stdout
    cat = next(line for line in lines if "/var/vmail" in line)
    assert shlex.split(shlex.split(cat)[-1])[-1] == "/var/vmail/example.com/o'brien/Maildir/new/*"


def test_a_directory_of_certificates_that_is_not_there(tmp_path: Path) -> None:
    """Config check says what a build would, and makes nothing."""
    run("init", *FLAGS)
    assert run("config", "check").exit_code == 0
    assert not (tmp_path / "tls").exists()
    done = run("config", "check", MAILSTACK_TLS_DIRECTORY="/etc/letsencrypt/nowhere")
    assert done.exit_code == 2
    assert "MAILSTACK_TLS_DIRECTORY: '/etc/letsencrypt/nowhere': does not exist; write the directory" in done.stderr


def test_env_without_settings(tmp_path: Path) -> None:
    """Check and init do not send a person from one to the other: what check advises can be done."""
    (tmp_path / ".env").write_text("# nothing\nTZ=UTC\n")
    said = run("config", "check").stderr
    assert "sets no MAILSTACK_ variable; add MAILSTACK_HOSTNAME and the other settings" in said
    assert "already exists; edit it, or move it away first" in run("init", *FLAGS).stderr
    (tmp_path / ".env").rename(tmp_path / "away")
    assert run("init", *FLAGS).exit_code == 0
    assert run("config", "check").exit_code == 0


@pytest.mark.parametrize("where", [".env", "environment"])
def test_variables_of_compose(tmp_path: Path, where: str) -> None:
    """What would have compose start something else than what is built is refused, wherever it is set; an empty one not."""
    run("init", *FLAGS)
    for name in ("COMPOSE_FILE", "COMPOSE_PROJECT_NAME"):
        text = (tmp_path / ".env").read_text()
        if where == ".env":
            (tmp_path / ".env").write_text(f"{text}{name}=other\n")
        done = run("config", "check", **({name: "other"} if where == "environment" else {}))
        assert done.exit_code == 2
        assert f"{name}: 'other': would " in done.stderr
        assert "remove it" in done.stderr
        (tmp_path / ".env").write_text(f"{text}{name}=\n")
        assert run("config", "check").exit_code == 0
        (tmp_path / ".env").write_text(text)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def huge(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(reading.MAX_OCTETS + 1)


ODD = {
    fifo: "not a regular file",
    device: "not a regular file",
    Path.mkdir: "not a regular file",
    huge: "is larger than",
}
NAMED = {
    "list": "MAILSTACK_MAILBOXES_FILE: 'list': ",
    ".env": ".env: cannot be read: ",
    "overrides/postfix/main.cf": "overrides/postfix/main.cf: cannot be read: ",
    "secrets/authserv-id": "secrets/authserv-id: cannot be read: ",
    "secrets/dkim/default._domainkey.example.com.pem": "default._domainkey.example.com.pem: ",
}


@pytest.mark.parametrize("make", ODD, ids=lambda one: one.__name__)
@pytest.mark.parametrize("name", NAMED)
def test_what_has_no_end(tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    """A pipe, a device, a directory and a huge file in place of one to read end the command at once, by name."""
    run("init", *FLAGS)
    make_keys(tmp_path)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).unlink(missing_ok=True)
    make(tmp_path / name)
    environment = {"MAILSTACK_MAILBOXES_FILE": "list"} if name == "list" else {}
    if environment:
        text = (tmp_path / ".env").read_text()
        (tmp_path / ".env").write_text(text.replace("MAILSTACK_MAILBOXES=", "# "))
    done = run("config", "check", **environment)
    assert done.exit_code in {2, 3}
    if (make, name) == (Path.mkdir, "overrides/postfix/main.cf"):
        assert f"{name}: is a directory, whose files are not used" in done.stderr
        return
    assert NAMED[name] in done.stderr
    assert ODD[make] in done.stderr


def test_something_else_in_place_of_secrets(tmp_path: Path) -> None:
    """A file where keys go is named with what to do."""
    run("init", *FLAGS)
    (tmp_path / "secrets").write_text("mine")
    done = run("build")
    assert done.exit_code == 3
    assert (
        f"{tmp_path}/secrets: cannot be written: File exists; something else has this name: move it away" in done.stderr
    )
    (tmp_path / "secrets").unlink()
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/dkim").write_text("mine")
    assert "/secrets/dkim: File exists; something else has" in run("build").stderr


def test_secrets_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another user made and this one may not read is told with the owner, and how to get it."""
    run("init", *FLAGS)
    make_keys(tmp_path)
    read = Path.open

    def refuse(path: Path, *given: Any, **named: Any) -> Any:
        if "secrets" in path.parts:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read(path, *given, **named)

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    owner = (tmp_path / "secrets").stat().st_uid
    for command in (["config", "check"], ["dns", "records"], ["build"]):
        done = run(*command)
        assert done.exit_code == 3
        words = f"belongs to user {owner}: work as that user, or run: sudo chown -R 54321 {tmp_path}/secrets"
        assert f"Permission denied; {tmp_path}/secrets {words}" in done.stderr


@pytest.mark.parametrize("command", [["build"], ["build", "--rollback"]])
def test_two_builds_at_once(tmp_path: Path, command: list[str]) -> None:
    """While one build works in a directory another is told so; one that was killed leaves nothing behind."""
    run("init", *FLAGS)
    program = (
        "import sys, time; from pathlib import Path; from mailstack.tasks import written\n"
        "with written.locked(Path(sys.argv[1])): print('locked', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        done = run(*command)
        assert done.exit_code == 1
        assert f"{tmp_path}: another build is running" in done.stderr
        assert [path.name for path in tmp_path.iterdir()] == [".env"]
        # What makes nothing does not wait.
        assert run("config", "check").exit_code == 0
        assert "there is no key yet; run: mailstack build" in run("dns", "records").stderr
        other.kill()
    assert "another build" not in run(*command, DOCKER_HOST="unix:///nonexistent/docker.sock").stderr


def test_there_and_back(tmp_path: Path) -> None:
    """A refresh and a rollback at once are no command."""
    run("init", *FLAGS)
    done = run("build", "--refresh", "--rollback")
    assert done.exit_code == 2
    assert "--refresh and --rollback cannot be used together" in done.stderr
