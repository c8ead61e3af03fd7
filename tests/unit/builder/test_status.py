"""What status makes of services that cannot be asked, and of files that they wrote; stand-ins answer for the engine."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import docker.errors
import pytest
import requests

from mailstack.cli.status import status_text
from mailstack.engine import execution
from mailstack.engine.status import NOT_THERE, NOTHING_SERVED, Queued, Service, certificates, counts, milters, sasl
from mailstack.errors import EngineError
from mailstack.services import SERVICE_NAMES
from mailstack.tasks import status as task
from mailstack.tasks.status import status_data, why_not_well
from unit.sites import stack

MILTER = "inet:rspamd:11332"
RESTARTING = docker.errors.APIError("409", explanation="Container a1 is restarting, wait until it is running")
PAUSED = docker.errors.APIError("409", explanation="Container a1 is paused, unpause it first")
BROKEN = docker.errors.APIError("500", explanation="cannot exec in a stopped container")
CUT = requests.ConnectionError("connection aborted")


def engine(said: bytes | Exception, code: int = 0) -> Any:
    """An engine whose containers all answer a command with the same, or with a failure."""

    def answer() -> execution.Answer:
        if isinstance(said, Exception):
            raise said
        return execution.Answer(code, said, said)

    return SimpleNamespace(containers=SimpleNamespace(list=lambda **_: [SimpleNamespace(id="a1")]), answer=answer)


@pytest.fixture(autouse=True)
def _commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "ask", lambda client, *_: client.answer())


@pytest.mark.parametrize("failure", [RESTARTING, PAUSED, BROKEN, CUT], ids=str)
def test_a_service_that_cannot_be_asked(failure: Exception) -> None:
    """The rest is shown all the same: counts are missing, and each milter has the reason."""
    assert counts(engine(failure), "project") == {}
    found = milters(engine(failure), "project", [MILTER, "unix:a/b.sock"])
    assert found.keys() == {MILTER, "unix:a/b.sock"}
    reason = getattr(failure, "explanation", None) or str(failure)
    assert set(found.values()) == {f"Postfix does not run the check: {reason}"}


def test_an_engine_that_lists_nothing() -> None:
    """That the engine itself does not answer is an error still."""

    def refuse(**_: object) -> None:
        raise BROKEN

    client: Any = SimpleNamespace(containers=SimpleNamespace(list=refuse))
    for ask in (lambda: counts(client, "project"), lambda: milters(client, "project", [MILTER])):
        with pytest.raises(EngineError, match="cannot exec"):
            ask()


def test_milters_that_answer() -> None:
    """Each has what the command in Postfix's container said of it."""
    said = f"{MILTER}\t\nunix:a/b.sock\tNo such file or directory\n".encode()
    assert milters(engine(said), "project", [MILTER]) == {MILTER: "", "unix:a/b.sock": "No such file or directory"}
    assert milters(engine(RESTARTING), "project", []) == {}


def test_an_auth_service() -> None:
    """What the command in Postfix's container said of it, or why there was none; on a line of its own."""
    assert sasl(engine(b""), "project", "unix:dovecot/auth") == ""
    assert sasl(engine(b"Connection\x1b refused\n"), "project", "unix:dovecot/auth") == "Connection refused"
    assert sasl(engine(PAUSED), "project", "unix:dovecot/auth").startswith("Postfix does not run the check: ")
    by_login = stack(sasl="inet:dovecot:12345")
    server = "inet:dovecot.mail-example-com_lookup:12345"
    for fault, shown in (("", "answers"), ("Connection refused", "Connection refused")):
        data = status_data(by_login, [], Queued(0), {}, {}, built=True, sasl=fault)
        assert data["well"] == (not fault)
        assert f"\nSASL       {server}, {shown}\n" in status_text(data)
    services = [Service(name, "running", "healthy", "image", 0, current=True) for name in SERVICE_NAMES]
    words = f": nobody can log in, because {server} (MAILSTACK_SASL) does not answer; start it, or change the setting"
    assert why_not_well(status_data(by_login, services, Queued(0), {}, {}, built=True, sasl="refused")) == words
    assert status_data(stack(), [], Queued(0), {}, {}, built=True)["sasl"] is None


SINCE = 1_790_000_000


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "null", "[]", "{}", "7", '"x"', "[" * 100_000, "\udcff"),
        *(f'{{"since": {since}, "counts": {{}}}}' for since in ("1e300", "-1e300", "NaN", "null", '"x"', "[]", "9" * 30)),
        *(f'{{"since": {SINCE}, "counts": {found}}}' for found in ("null", "[]", "7", '"x"')),
    ],
    ids=lambda text: ascii(text[:30]),
)  # fmt: skip
def test_a_file_of_counts_that_is_none(text: str) -> None:
    """JSON of another shape is passed over like a damaged file."""
    assert counts(engine(text.encode(errors="surrogateescape")), "project") == {}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"reject": {"spf": 2}}, {"reject": {"spf": 2}}),
        ({"reject": {"spf": 2}, "defer": None, "x": [], "y": 3, "z": {}}, {"reject": {"spf": 2}}),
        (
            {"reject": {"a": "2", "b": None, "c": 1.5, "d": True, "e": -1, "f": 10**400, "spf": 2}},
            {"reject": {"spf": 2}},
        ),
        ({"re\x1b[31mject": {"s\x00p\x9b\nf\ud800\u202e": 2}}, {"re[31mject": {"spf": 2}}),
    ],
)
def test_counts_that_do_not_fit(found: Any, expected: Any) -> None:
    """What is no count of a rule is dropped, names lose what a terminal would obey, and the rest is shown."""
    shown = counts(engine(json.dumps({"since": SINCE, "counts": found}).encode()), "project")
    assert shown == {one: {"since": SINCE, "counts": expected} for one in ("dmarc", "policyd-spf")}
    data = status_data(stack(), [], Queued(0), {}, shown, built=True)
    done = "rejected" if "reject" in expected else "re[31mject"
    assert [line for line in status_text(data).splitlines() if line.startswith("incoming")] == [
        f"incoming   {service} {done} 2 messages since 2026-09-21 14:13 UTC, by rule: spf 2"
        for service in ("dmarc", "policyd-spf")
    ]


STATE = """\
served\tmail.a.example *.a.example\t2027-01-29 08:22:16Z\tissued\ttls/a.pem
served\tmail.b.example\t2036-01-29 08:22:16Z\tself-signed\t
fault\ttls/c\x1b[31m.pem is cut off
remark\tthe certificate expires
served\tshort

fault
something\telse
"""


def test_certificates() -> None:
    """What Postfix's program says of certificates, without lines that are cut and what would steer a terminal."""
    found = certificates(engine(STATE.encode()), "project")
    assert (found.faults, found.remarks) == (("tls/c[31m.pem is cut off",), ("the certificate expires",))
    data = status_data(stack(), [], Queued(0), {}, {}, built=True, certificates=found)
    assert [line for line in status_text(data).splitlines() if line.startswith("TLS")] == [
        "TLS        mail.a.example, *.a.example, tls/a.pem, until 2027-01-29 08:22:16Z",
        "TLS        mail.b.example, self-signed, until 2036-01-29 08:22:16Z",
        "TLS        tls/c[31m.pem is cut off",
    ]
    assert certificates(engine(RESTARTING), "project") == NOTHING_SERVED


def test_why_messages_wait() -> None:
    """The reasons of the queue, with how many recipients wait for each."""
    queued = Queued(3, {"connect to mx.example: timed out": 2, "no answer": 1})
    data = status_data(stack(), [], queued, {}, {}, built=True)
    assert data["queue"] == 3
    assert [line for line in status_text(data).splitlines() if line.startswith(("queue", "waiting"))] == [
        "queue      3 messages",
        "waiting    2 recipients: connect to mx.example: timed out",
        "waiting    1 recipient: no answer",
    ]


UP = ("running", True)
START = "run: docker compose up -d --wait"


@pytest.mark.parametrize(
    ("states", "fault", "built", "words"),
    [
        ({"postfix": ("restarting", True)}, "", True, ": postfix is not running; see 'docker compose logs postfix'"),
        ({"postfix": ("exited", False)}, "", True, ": postfix is not running; see 'docker compose logs postfix'"),
        (
            {"dmarc": ("exited", True), "resolver": ("paused", True)},
            "",
            True,
            ": dmarc, resolver are not running; see 'docker compose logs dmarc resolver'",
        ),
        ({"postfix": ("restarting", True)}, "Postfix does not run the check", True, ": postfix is not running;"),
        ({"postfix": ("running", False)}, "", True, f": some containers are still from an earlier build; {START}"),
        (
            {"postfix": ("running", False), "dmarc": ("exited", True)},
            "refused",
            True,
            f": some containers are still from an earlier build; {START}",
        ),
        ({"dmarc": (NOT_THERE, False)}, "", True, f": dmarc was not started; {START}"),
        (dict.fromkeys(SERVICE_NAMES, (NOT_THERE, False)), "", True, f" was not started; {START}"),
        ({}, "refused", True, f": {MILTER} in MAILSTACK_EXTRA_MILTERS does not answer; start it"),
        ({}, "", True, " has a problem; see 'docker compose ps'"),
        ({"postfix": ("exited", False)}, "refused", False, ": settings, overrides or files have changed"),
    ],
)
def test_why_a_site_is_not_well(states: dict[str, tuple[str, bool]], fault: str, built: bool, words: str) -> None:
    """What stands in the way first is named; an earlier build is, where something of it runs."""
    services = []
    for name in SERVICE_NAMES:
        state, current = states.get(name, UP)
        services.append(Service(name, state, "starting", "image", 0, current=current))
    data = status_data(stack(), services, Queued(0), {MILTER: fault}, {}, built=built)
    assert not data["well"]
    assert why_not_well(data).startswith(words)


def test_containers_of_another_directory(tmp_path: Path) -> None:
    """A copy of a site on the same host is told of the first one; a directory that is not here says nothing."""
    for name in ("site", "copy"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "site")
    site, copy, link, gone = (str(tmp_path / one) for one in ("site", "copy", "link", "gone"))
    assert task._other_sites(tmp_path / "site", [site, link, gone]) == []
    (said,) = task._other_sites(tmp_path / "copy", [copy, site])
    assert said.startswith(f"containers of this name were started in {site}; 'docker compose up' here replaces them")
