"""What a site adds to a daemon's configuration is appended, and replaces what it names."""

import errno
import os
import re
import shutil
from pathlib import Path

import pytest

from mailstack.errors import SettingsError
from mailstack.render import overrides
from mailstack.render.compose import site
from mailstack.render.site import files
from unit.sites import stack


def put(root: Path, name: str, text: str) -> dict[str, str]:
    path = root / overrides.DIRECTORY / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return overrides.read(root)


def rendered(added: dict[str, str], service: str, path: str) -> str:
    return files(stack(), added)[service][path].content.decode()


def test_parameter_of_main_cf(tmp_path: Path) -> None:
    """A parameter stands in main.cf once, with the override's value; the lines that went on with ours are gone too."""
    added = put(
        tmp_path, "postfix/main.cf", "smtpd_recipient_restrictions =\n    reject\nmaximal_queue_lifetime = 2d\n"
    )
    text = rendered(added, "postfix", "etc/postfix/main.cf")
    assert text.count("smtpd_recipient_restrictions") == 1
    assert "reject_unlisted_recipient" not in text
    assert text.endswith(f"# From overrides/postfix/main.cf\n{added['postfix/main.cf']}")
    assert "smtpd_relay_restrictions = permit_mynetworks" in text


def test_service_of_master_cf(tmp_path: Path) -> None:
    """A service stands in master.cf once; one of another type is another service."""
    added = put(tmp_path, "postfix/master.cf", "submission inet n - y - - smtpd\n  -o syslog_name=mine\n")
    text = rendered(added, "postfix", "etc/postfix/master.cf")
    found = [line for line in text.splitlines() if line.partition(" ")[0] == "submission"]
    assert found == ["submission inet n - y - - smtpd"]
    assert "syslog_name=postfix/submission\n" not in text
    assert "\nsmtp      inet" in text
    assert "\nsmtp      unix" in text


@pytest.mark.parametrize(
    ("name", "service", "path"),
    [
        ("opendkim/opendkim.conf", "opendkim", "etc/opendkim/opendkim.conf"),
        ("resolver/unbound.conf", "resolver", "etc/unbound/mailstack.conf"),
    ],
)
def test_appended(tmp_path: Path, name: str, service: str, path: str) -> None:
    """Other daemons' files are what they were, with the addition at the end; no other service changes."""
    before = files(stack(), {})
    after = files(stack(), put(tmp_path, name, "some thing\n"))
    ours = before[service][path].content.decode()
    assert after[service][path].content.decode() == f"{ours.rstrip()}\n\n# From overrides/{name}\nsome thing\n"
    assert {one for one in before if before[one].digest() != after[one].digest()} == {service}


def test_an_override_recreates_its_service(tmp_path: Path) -> None:
    """The digest in compose.yaml's label follows the override."""
    assert site(stack(), put(tmp_path, "postfix/main.cf", "x = y\n"))["compose.yaml"] != site(stack())["compose.yaml"]


def test_files_that_go_nowhere(tmp_path: Path) -> None:
    """Each file that is not used is named, and so is one that is no text; an editor's leavings are not."""
    put(tmp_path, "postfix/main.cf", "x = y\n")
    (tmp_path / "overrides/postfix/.main.cf.swp").write_bytes(b"\xff")
    (tmp_path / "overrides/opendkim").mkdir()
    (tmp_path / "overrides/opendkim/opendkim.conf").write_bytes(b"\xff")
    with pytest.raises(SettingsError) as caught:
        put(tmp_path, "policyd-spf/policy.json", "{}")
    assert [fault.variable for fault in caught.value.faults] == [
        "overrides/opendkim/opendkim.conf",
        "overrides/policyd-spf/policy.json",
    ]


def test_none(tmp_path: Path) -> None:
    """Without a directory there is nothing to add."""
    assert overrides.read(tmp_path) == {}


def test_a_directory_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that may not be listed is a fault, not an empty one; so is a file of the name."""
    put(tmp_path, "postfix/main.cf", "x = y\n")
    listed = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("postfix"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(SettingsError, match=r"^overrides/postfix: cannot be read: Permission denied$"):
        overrides.read(tmp_path)
    monkeypatch.undo()
    shutil.rmtree(tmp_path / "overrides")
    (tmp_path / "overrides").write_text("x = y\n")
    with pytest.raises(
        SettingsError,
        match=r"^overrides: cannot be read: Not a directory; a file has the name of a directory: move it away$",
    ):
        overrides.read(tmp_path)


def test_a_link_to_a_directory(tmp_path: Path) -> None:
    """What is kept elsewhere and linked counts like what lies here."""
    put(tmp_path / "elsewhere", "postfix/main.cf", "x = y\n")
    (tmp_path / "overrides").mkdir()
    (tmp_path / "overrides/postfix").symlink_to(tmp_path / "elsewhere/overrides/postfix")
    assert overrides.read(tmp_path) == {"postfix/main.cf": "x = y\n"}


@pytest.mark.parametrize(
    ("links", "named"),
    [
        ({"a": ".", "b": "."}, {"a/a", "a/b", "a/postfix", "b/a", "b/b", "b/postfix"}),
        ({"postfix/a": ".", "postfix/b": ".", "postfix/c": ".."}, {"postfix/a", "postfix/b", "postfix/c"}),
        ({"a": "postfix"}, {"a/main.cf"}),
        ({"a": "../overrides", "b": "../"}, {"a/a", "a/b", "a/postfix", "b/overrides"}),
        ({"a": "a", "b": "nowhere"}, {"a", "b"}),
    ],
)
def test_links_that_lead_round(tmp_path: Path, links: dict[str, str], named: set[str]) -> None:
    """Links to a directory that is being read end in faults that name them, at once."""
    put(tmp_path, "postfix/main.cf", "x = y\n")
    for name, target in links.items():
        (tmp_path / "overrides" / name).symlink_to(target)
    with pytest.raises(SettingsError) as caught:
        overrides.read(tmp_path)
    assert {fault.variable.removeprefix("overrides/") for fault in caught.value.faults} >= named
    assert all("possible names are postfix/main.cf" in fault.remedy for fault in caught.value.faults)


def test_a_hidden_directory(tmp_path: Path) -> None:
    """What an editor or a version control keeps beside a file does not count, wherever it leads."""
    put(tmp_path, "postfix/main.cf", "x = y\n")
    (tmp_path / "overrides/postfix/.a").symlink_to(".")
    (tmp_path / "overrides/postfix/.rcs").mkdir()
    (tmp_path / "overrides/postfix/.rcs/main.cf,v").write_text("x")
    assert overrides.read(tmp_path) == {"postfix/main.cf": "x = y\n"}


def test_a_directory_too_deep(tmp_path: Path) -> None:
    """Where no file is appended a directory is named, be it empty or full."""
    (tmp_path / "overrides/postfix/conf.d/more").mkdir(parents=True)
    (tmp_path / "overrides/postfix/main.cf").mkdir()
    with pytest.raises(SettingsError) as caught:
        overrides.read(tmp_path)
    assert [str(fault).partition(";")[0] for fault in caught.value.faults] == [
        f"overrides/postfix/{one}: is a directory, whose files are not used" for one in ("conf.d", "main.cf")
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "Socket inet:8891@localhost",
            "sets Socket, which Postfix needs to find opendkim; remove the line",
        ),
        ("AuthservID mail.example.com", "sets AuthservID"),
        ("umask\t000", "sets umask"),
        ("  MODE\tv", "sets MODE, so mail would leave unsigned or come in unverified"),
        ("INCLUDE /etc/own.conf", "sets INCLUDE, but the build does not see that file"),
        ("On-Default foo", "has 'On-Default foo'; write On-Default with one of accept, discard"),
        ("On-KeyNotFound", "has 'On-KeyNotFound'"),
    ],
)
def test_what_opendkim_takes_and_should_not(tmp_path: Path, line: str, words: str) -> None:
    """A socket elsewhere, and an action that opendkim would ignore, are faults; comments and right ones are not."""
    right = "# Socket inet:1@localhost\nOn-Default\treject # ours\n"
    put(tmp_path, "opendkim/opendkim.conf", right)
    with pytest.raises(SettingsError, match=f"^overrides/opendkim/opendkim.conf: {re.escape(words)}"):
        put(tmp_path, "opendkim/opendkim.conf", f"{right}{line}\n")


@pytest.mark.parametrize(
    "name",
    [
        "smtpd_milters",
        "non_smtpd_milters",
        "smtpd_milter_maps",
        "smtpd_proxy_filter",
        "milter_protocol",
        "milter_mail_macros",
        "milter_macro_daemon_name",
    ],
)
def test_milters_of_postfix(tmp_path: Path, name: str) -> None:
    """Nobody's milters take dmarc's place; a comment, and the milters of a service of one's own, are no such thing."""
    put(tmp_path, "postfix/main.cf", f"# {name} = inet:192.0.2.1:11332\n{name}_x = y\n")
    put(tmp_path, "postfix/master.cf", f"10026 inet n - y - - smtpd\n  -o {name}=\n")
    words = f"overrides/postfix/main.cf: sets {name}, so mail would bypass dmarc; name your own milters in"
    with pytest.raises(SettingsError, match=f"^{re.escape(words)} MAILSTACK_EXTRA_MILTERS"):
        put(tmp_path, "postfix/main.cf", f"{name} = inet:192.0.2.1:11332\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "milter_default_action = accept\n",
            "sets milter_default_action; write MAILSTACK_MILTER_DEFAULT_ACTION in .env",
        ),
        ("receive_override_options = no_milters\n", "has no_milters in receive_override_options"),
        ("receive_override_options =\n# more\n\n  no_address_mappings,\n\tno_milters\n", "has no_milters in"),
    ],
)
def test_what_bypasses_milters_by_another_name(tmp_path: Path, text: str, words: str) -> None:
    """What comes to the same as no milters is refused too, on one line or on several; what does not is taken."""
    put(
        tmp_path,
        "postfix/main.cf",
        "# receive_override_options = no_milters\nreceive_override_options =\nx = no_milters\n",
    )
    with pytest.raises(SettingsError, match=f"^overrides/postfix/main.cf: {re.escape(words)}"):
        put(tmp_path, "postfix/main.cf", text)
