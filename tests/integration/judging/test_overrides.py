"""A site's own additions: what a daemon does not take is found at build, what it takes is in force."""

import re
import shutil
import sys
from functools import partialmethod
from pathlib import Path

import docker
import pytest
import yaml
from docker.models.containers import ContainerCollection

from integration.conftest import CHECKOUT, run_in
from mailstack.engine import checker
from mailstack.tree import File, Tree


@pytest.fixture(scope="module")
def built(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of env.example that was built."""
    directory = tmp_path_factory.mktemp("built")
    shutil.copy(CHECKOUT / "env.example", directory / ".env")
    done = run_in(directory, sys.executable, "-m", "mailstack", "build")
    assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture
def directory(built: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    return tmp_path


def add(directory: Path, name: str, text: str) -> None:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


ANYBODY = "check_client_access static:OK, reject_unauth_destination"
BROKEN = [
    ("overrides/postfix/main.cf", "smtpd_helo_requird = yes\n", "unused parameter: smtpd_helo_requird"),
    ("overrides/postfix/main.cf", "smtpd_helo_required\n", "missing '=' after attribute name"),
    ("overrides/postfix/main.cf", "disable_vrfy_command = maybe\n", "disable_vrfy_command"),
    ("overrides/postfix/main.cf", "smtpd_hard_error_limit = many\n", "smtpd_hard_error_limit"),
    ("overrides/postfix/main.cf", "qmgr_message_active_limit = many\n", "qmgr_message_active_limit"),
    *(
        ("overrides/postfix/main.cf", f"{text}\n", words)
        for text, words in [
            ("smtpd_recipient_restrictions = permit_mynetwork, reject_unauth_destination", "permit_mynetwork"),
            ("smtpd_end_of_data_restrictions = check_nothing", "check_nothing"),
            ("header_checks = regexp:/etc/postfix/nope", "/etc/postfix/nope"),
            ("smtpd_sender_restrictions = check_sender_access texthash:/etc/postfix/nope", "/etc/postfix/nope"),
            ("smtp_tls_policy_maps = texthash:$config_directory/nope", "/etc/postfix/nope"),
        ]
    ),
    ("overrides/postfix/master.cf", "2525 inet n - y\n", "bad field count"),
    (
        "overrides/postfix/master.cf",
        "submission inet n - y - - smtpd\n  -o smtpd_recipient_restrictions=permit_nobody\n",
        "permit_nobody",
    ),
    (
        "overrides/postfix/main.cf",
        "smtpd_tls_security_level = encrypt\nmynetworks = 0.0.0.0/0\n",
        "port 25 587 465 is an open relay",
    ),
    ("overrides/postfix/main.cf", "mynetworks = 0.0.0.0/0\n", "port 25 587 465 is an open relay"),
    (
        "overrides/postfix/main.cf",
        f"smtpd_relay_restrictions = {ANYBODY}\nsmtpd_recipient_restrictions = {ANYBODY}\n",
        "port 25 is an open relay",
    ),
    (
        "overrides/postfix/master.cf",
        f"2525 inet n - y - - smtpd\n  -o {{ smtpd_relay_restrictions={ANYBODY} }} -o {{ smtpd_recipient_restrictions={ANYBODY} }}\n",
        "port 2525 is an open relay",
    ),
    *(
        ("overrides/postfix/master.cf", text, words)
        for text, words in [
            (
                "smtp inet n - y - - smtpd\n  -o smtpd_milters=inet:192.0.2.1:11332\n",
                "smtp/inet has a smtpd_milters of",
            ),
            ("25 inet n - y - - smtpd\n  -o {\n smtpd_milter_maps =\n }\n", "25/inet has a smtpd_milter_maps of"),
            (
                "2525 inet n - y - - smtpd\n# more\n  -o smtpd_milters=${no}\n  -o no=inet:192.0.2.1:11332\n",
                "2525/inet has a smtpd_milters of",
            ),
            ("submission inet n - y - - smtpd\n  -o receive_override_options=no_milters\n", "with no_milters"),
            (
                "2525 inet n - y - - smtpd\n  -o { receive_override_options = no_address_mappings, $x }\n  -o x=no_milters\n",
                "with no_milters",
            ),
            ("smtpd pass - - y - - smtpd\n  -o milter_mail_macros=i\n", "smtpd/pass has a milter_mail_macros of"),
            ("192.0.2.1:25 inet n - y - - smtpd\n  -o smtpd_proxy_filter=127.0.0.1:10026\n", "smtpd_proxy_filter of"),
            ("cleanup unix n - y - 0 cleanup\n  -o non_smtpd_milters=\n", "cleanup/unix has a non_smtpd_milters of"),
            ("pickup unix n - y 60 1 pickup\n  -o receive_override_options=no_milters\n", "pickup/unix has receive_"),
            (
                "2525 inet n - y - - smtpd\n  -o smtpd_recipient_restrictions=reject_unauth_destination\n",
                "port 2525 accepts mail without the SPF check",
            ),
        ]
    ),
    (
        "overrides/postfix/main.cf",
        "smtpd_recipient_restrictions = permit_mynetworks, reject_unauth_destination\n",
        "port 25 accepts mail without the SPF check",
    ),
    ("overrides/opendkim/opendkim.conf", "On-Default foo\n", "On-Default foo"),
    ("overrides/opendkim/opendkim.conf", "Socket inet:8891@localhost\n", "sets Socket"),
    ("overrides/opendkim/opendkim.conf", "AuthservID mail.example.com\n", "sets AuthservID"),
    ("overrides/opendkim/opendkim.conf", "authservidwithjobid yes\n", "sets authservidwithjobid"),
    ("overrides/opendkim/opendkim.conf", "Nameservers x\n", "nameserver"),
    ("overrides/opendkim/opendkim.conf", "Selektor default\n", "line"),
    ("overrides/resolver/unbound.conf", "server:\n  num-threds: 2\n", "num-threds"),
    ("overrides/resolver/unbound.conf", 'server:\n  module-config: "iterator"\n', 'has no "validator"'),
    (
        "overrides/resolver/unbound.conf",
        "server: val-permissive-mode: yes\n",
        "val-permissive-mode accepts answers that",
    ),
    ("overrides/resolver/unbound.conf", 'server:\n  domain-insecure: "."\n', 'domain-insecure "." turns'),
    ("compose.override.yaml", "services: {postfix: {memlimit: 64m}}\n", "memlimit"),
    ("compose.override.yaml", "services: [postfix\n", "compose.override.yaml"),
    *(
        ("compose.override.yaml", text, "mailstack's file /etc/postfix/main.cf in postfix")
        for text in (
            'services: {postfix: {volumes: ["./own:/etc/postfix/main.cf:ro"]}}\n',
            "services: {postfix: {configs: [{source: own, target: /etc/postfix/main.cf}]}}\nconfigs: {own: {file: ./own}}\n",
        )
    ),
    ("compose.override.yml", "services: {postfix: {memlimit: 64m}}\n", "memlimit"),
]


@pytest.mark.parametrize(("name", "text", "words"), BROKEN, ids=[f"{name}-{words}" for name, _, words in BROKEN])
def test_broken(directory: Path, name: str, text: str, words: str) -> None:
    """The build ends with 2, names the file, says what the daemon said, and leaves every file as it was."""
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    add(directory, name, text)
    before[directory / name] = text.encode()
    done = run_in(directory, sys.executable, "-m", "mailstack", "build")
    assert done.returncode == 2, done.stderr
    assert name in done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before
    # The remedy: without it the site builds, and nothing has changed.
    (directory / name).unlink()
    done = run_in(directory, sys.executable, "-m", "mailstack", "build")
    assert done.returncode == 0
    assert "0 files written" in done.stderr


def test_taken(directory: Path) -> None:
    """Additions that the daemons take are built, by each daemon's own file."""
    # A content filter hands mail back on loopback, where milters have seen it; strangers cannot send by the other one.
    add(
        directory,
        "overrides/postfix/master.cf",
        "2525 inet n - y - - smtpd\n  -o milter_protocol=6\n"
        "127.0.0.1:10026 inet n - y - - smtpd\n  -o smtpd_milters= -o smtpd_milter_maps=\n"
        "  -o receive_override_options=no_milters,no_address_mappings\n"
        "2526 inet n - y - - smtpd\n  -o { smtpd_recipient_restrictions = permit_mynetworks, reject }\n",
    )
    add(directory, "overrides/opendkim/opendkim.conf", "LogResults yes\n")
    add(directory, "overrides/resolver/unbound.conf", "server:\n  cache-max-ttl: 3600\n")
    # A table of the site's own is mounted; servers that are not there at build are nobody's mistake.
    add(
        directory,
        "overrides/postfix/main.cf",
        "smtpd_client_restrictions = check_client_access texthash:/etc/postfix/own, reject_rbl_client rbl.example,\n"
        "    check_policy_service inet:192.0.2.1:10023\nmaximal_queue_lifetime = 2d\n",
    )
    add(directory, "own", "192.0.2.1 OK\n")
    add(
        directory,
        "compose.override.yaml",
        'services: {postfix: {mem_limit: 256m, volumes: ["./own:/etc/postfix/own:ro"]}}\n',
    )
    done = run_in(directory, sys.executable, "-m", "mailstack", "build")
    assert done.returncode == 0, done.stderr
    for service in ("postfix", "opendkim", "resolver"):
        assert f"checking the configuration of {service}" in done.stderr
    assert "0 files written" in run_in(directory, sys.executable, "-m", "mailstack", "build").stderr


@pytest.mark.parametrize("line", ["FOO=${", "FOO=${BAR:?x}"])
def test_env_that_compose_does_not_read(directory: Path, line: str) -> None:
    """A line for nobody here, on which compose would stop at "up", ends the build that changes something."""
    add(directory, ".env", f"{(directory / '.env').read_text()}MAILSTACK_PORT_SMTP=2525\n{line}\n")
    done = run_in(directory, sys.executable, "-m", "mailstack", "build")
    assert done.returncode == 2, done.stderr
    assert re.search(f"{directory / '.env'}: .*compose rejects this file", done.stderr)


def test_a_busy_machine(directory: Path, engine_client: docker.DockerClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a quarter of a processor Postfix takes its configuration as well, only later."""
    (files,) = (directory / ".mailstack/postfix").iterdir()
    tree = Tree({str(one.relative_to(files)): File(one.read_bytes()) for one in files.rglob("*") if one.is_file()})
    image = yaml.safe_load((directory / "compose.yaml").read_text())["services"]["postfix"]["image"]
    slow = partialmethod(ContainerCollection.create, nano_cpus=250_000_000)
    monkeypatch.setattr(ContainerCollection, "create", slow)
    checker.check(engine_client, "postfix", image, tree, added=[], mounted={})
