"""mailstack trace: what recorded log lines say, whatever strangers put in them; stand-ins answer for the engine."""

import json
import re
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest
from click.testing import CliRunner

from mailstack.cli.app import main
from mailstack.cli.status import status_text
from mailstack.engine import connection
from mailstack.engine.logs import Line, Log
from mailstack.engine.status import Queued
from mailstack.errors import EngineError, MailstackError
from mailstack.tasks import trace as task
from mailstack.tasks.status import status_data, verdicts
from mailstack.trace import judges, postfix
from mailstack.trace.wanted import Wanted, wanted
from unit.sites import stack

ID, OTHER = "4jdNGG5B4Fz6Llm", "4jdNGH17sGz6MC2"
AT = "Nov 30 12:13:26 mail postfix"
CLIENT = f"smtpd[301]: {ID}: client=mx.b.example[192.0.2.7]"
TLS = "TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits) key-exchange x25519 server-signature ECDSA"
SENT = "delay=0.26, delays=0.01/0.02/0.17/0.06, dsn=2.0.0, status=sent"
# As a real stack wrote them, but for names and addresses.
POSTFIX = f"""
smtpd[301]: connect from mx.b.example[192.0.2.7]
smtpd[301]: Anonymous TLS connection established from mx.b.example[192.0.2.7]: {TLS}
{CLIENT}
cleanup[304]: {ID}: message-id=<2@b.example>
qmgr[277]: {ID}: from=<x@b.example>, size=541, nrcpt=2 (queue active)
smtpd[301]: disconnect from mx.b.example[192.0.2.7] ehlo=2 starttls=1 mail=1 rcpt=2 data=1 quit=1 commands=8
virtual[305]: {ID}: to=<user@a.example>, relay=virtual, {SENT} (delivered to maildir)
smtp[306]: Untrusted TLS connection established to mx.c.example[192.0.2.9]:25: {TLS}
smtp[306]: {ID}: to=<y@c.example>, orig_to=<away@a.example>, relay=mx.c.example[192.0.2.9]:25, {SENT} (250 2.0.0 Ok)
qmgr[277]: {ID}: removed
"""
VERDICT = {
    "time": 1796040806,
    "queue_id": ID,
    "action": "accept",
    "reason": "",
    "result": "pass",
    "count": 1,
    "source_ip": "192.0.2.7",
    "envelope_from": "<x@b.example>",
    "envelope_to": ["<user@a.example>", "<away@a.example>"],
    "from": "News <news@b.example>",
    "message_id": "<2@b.example>",
    "header_from": "b.example",
    "auth_results": {
        "spf": {"domain": "b.example", "scope": "mfrom", "result": "pass"},
        "dkim": [{"domain": "b.example", "selector": "s1", "result": "pass", "reason": ""}],
    },
}
DMARC = json.dumps(VERDICT)
SPF = f"policyd-spf: {ID}: client=192.0.2.7 identity=mailfrom domain='b.example' result=pass action=PREPEND"
OPENDKIM = f"""
Nov 30 12:13:26 opendkim[1]: {ID}: mx.b.example [192.0.2.7] not internal
Nov 30 12:13:26 opendkim[1]: {ID}: not authenticated
Nov 30 12:13:26 opendkim[1]: {ID}: DKIM verification successful
"""


def frame(text: bytes, kind: int = 1, at: str = "2026-11-30T12:13:26.000000001Z") -> bytes:
    content = at.encode() + b" " + text if kind < 3 else text
    return struct.pack(">BxxxL", kind, len(content)) + content


class Engine:
    """An engine that keeps these logs, of containers that do not run, each line a second after the one before."""

    def __init__(self, **logs: str | bytes) -> None:
        self.api: Any = self
        self.logs = {service.replace("_", "-"): said for service, said in logs.items()}
        self.containers: Any = self._containers
        self.since: list[str] = []

    def _containers(self, **_: object) -> list[dict[str, Any]]:
        return [{"Id": one, "Labels": {"com.docker.compose.service": one}} for one in self.logs]

    def _url(self, _: str, container: str) -> str:
        return container

    def _get(self, url: str, *, params: dict[str, Any], stream: bool) -> Any:
        assert stream
        self.since.append(params["since"])
        return _Answer(self.logs[url])

    def _raise_for_status(self, answer: Any) -> None:
        pass


class _Answer:
    def __init__(self, said: str | bytes) -> None:
        self._said = said

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def iter_content(self, size: int) -> Iterator[bytes]:
        said = self._said
        if isinstance(said, str):
            lines = [one for one in said.splitlines() if one]
            said = b"".join(
                frame(f"{one}\n".encode(), at=f"2026-11-30T12:{13 + number // 60}:{number % 60:02}.000000000Z")
                for number, one in enumerate(lines)
            )
        yield from (said[at : at + 7] for at in range(0, len(said), 7))


def of_postfix(lines: str) -> str:
    return "\n".join(f"{AT}/{one}" for one in lines.splitlines() if one)


Trace = Callable[..., Any]


@pytest.fixture
def trace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Trace:
    """Run the command on logs."""
    (tmp_path / "compose.yaml").write_text("name: mail-a-example\n")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, engine: Any = None, **logs: str | bytes) -> Any:
        monkeypatch.setattr(connection, "connect", lambda: engine or Engine(**logs))
        monkeypatch.setattr(task, "Queue", _queue)
        return CliRunner().invoke(main, ["trace", *arguments])

    return run


def _queue(*_: object) -> Any:
    return SimpleNamespace(places=lambda ids: {})


def steps(done: Any) -> list[str]:
    """What the output says, without times."""
    assert done.exit_code == 0, done.stderr
    return [line[21:] for line in done.stdout.splitlines() if re.match(r"\d{4}-\d\d-\d\d ", line)]


ALL = {"postfix": of_postfix(POSTFIX), "dmarc": DMARC, "policyd_spf": SPF, "opendkim": OPENDKIM}


@pytest.mark.parametrize("what", [ID, "<2@b.example>", "2@b.example"])
def test_all_services(trace: Trace, what: str) -> None:
    """One line for each step; what dmarc says of SPF and DKIM stands for what the others say."""
    done = trace(what, **ALL)
    assert steps(done) == [
        "received from mx.b.example [192.0.2.7] over TLS 1.3",
        "SPF pass (b.example), DKIM pass (b.example), DMARC pass (b.example)",
        "delivered to the mailbox user@a.example",
        "forwarded for away@a.example to y@c.example through mx.c.example [192.0.2.9] over TLS 1.3: 250 2.0.0 Ok",
        "removed from the queue: done",
    ]
    assert done.stdout.splitlines()[:4] == [
        "times are UTC",
        "",
        f"{ID}  from x@b.example to user@a.example, away@a.example, y@c.example",
        "Message-ID <2@b.example>, 541 B",
    ]
    assert done.stderr == ""


ADDRESSES = ["x@b.example", "X@B.example", "news@b.example", "user@a.example", "away@a.example", "y@c.example"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_by_address(trace: Trace, address: str) -> None:
    """By sender, author, recipient and alias, in any case: what became of it."""
    assert trace(address, "--since", "2020-01-01", **ALL).stdout.splitlines() == [
        "times are UTC",
        f"2026-11-30 12:13:00  {ID}  from x@b.example to user@a.example, away@a.example, y@c.example",
        "    delivered to the mailbox user@a.example",
        "    forwarded for away@a.example to y@c.example through mx.c.example [192.0.2.9] over TLS 1.3: 250 2.0.0 Ok",
    ]


LINES = {
    "submission/smtpd[1]: {}: client=h.example[192.0.2.8], sasl_method=PLAIN, sasl_username=u@a.example": (
        "submitted by h.example [192.0.2.8], logged in as u@a.example"
    ),
    "pickup[1]: {}: uid=0 from=<root>": "submitted by sendmail in the container, as uid 0",
    "smtpd[1]: {}: lost connection after DATA (9 bytes) from unknown[192.0.2.7]": (
        "lost connection after DATA (9 bytes): the message is incomplete"
    ),
    "smtpd[1]: {}: reject: RCPT from unknown[192.0.2.7]: 450 4.1.8 <x@no.example>: Domain not found; from=<x@no.example> "
    "to=<user@a.example> proto=ESMTP helo=<h>": "deferred at RCPT: 450 4.1.8 <x@no.example>: Domain not found",
    "cleanup[1]: {}: milter-reject: END-OF-MESSAGE from unknown[192.0.2.7]: 5.7.1 no; from=<x@b.example> "
    "to=<user@a.example> proto=ESMTP helo=<h>": "rejected after DATA: 5.7.1 no",
    "smtpd[1]: {}: discard: RCPT from unknown[192.0.2.7]: <u@a.example>: forged; from=<u@a.example> to=<user@a.example> "
    "proto=ESMTP helo=<h>": "discarded at RCPT: answered with 250, and not delivered (<u@a.example>: forged)",
    "postscreen[1]: {}: reject: RCPT from [192.0.2.7]:4711: 550 5.7.1 blocked; from=<x@b.example>, to=<user@a.example>, "
    "proto=ESMTP, helo=<h>": "rejected at RCPT: 550 5.7.1 blocked",
    "smtp[1]: {}: to=<y@c.example>, relay=none, delay=3, delays=0/0/3/0, dsn=4.4.1, status=deferred (connect to "
    "c.example[192.0.2.9]:25: No route to host)": (
        "deferred for y@c.example: connect to c.example[192.0.2.9]:25: No route to host"
    ),
    "smtps/smtp[1]: {}: to=<y@c.example>, relay=r.example[192.0.2.9]:465, delay=3, delays=0/0/3/0, dsn=5.1.1, "
    "status=bounced (host r.example[192.0.2.9] said: 550 no (in reply to RCPT TO command))": (
        "not delivered to y@c.example: host r.example[192.0.2.9] said: 550 no (in reply to RCPT TO command)"
    ),
    "lmtp[1]: {}: to=<user@a.example>, orig_to=<sales@a.example>, relay=192.0.2.9[192.0.2.9]:24, conn_use=2, delay=0, "
    "delays=0/0/0/0, dsn=2.0.0, status=sent (250 OK)": (
        "delivered to user@a.example (by the alias sales@a.example) through [192.0.2.9] port 24: 250 OK"
    ),
    "virtual[1]: {}: to=<user+quarantine@a.example>, relay=virtual, delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent "
    "(delivered to maildir)": "delivered to the mailbox user@a.example, folder Junk",
    "qmgr[1]: {}: from=<x@b.example>, status=expired, returned to sender": "expired: returned to sender",
    "postsuper[1]: {}: placed on hold": "placed on hold",
    "postsuper[1]: {}: removed": "deleted from the queue by an administrator",
    "bounce[1]: {}: sender delay notification: 4jdNGH17sGz6MC2": "notice of delay to the sender: 4jdNGH17sGz6MC2",
    "smtp[1]: {}: host c.example[192.0.2.9] said: 451 later": "postfix/smtp: host c.example[192.0.2.9] said: 451 later",
    "cleanup[1]: warning: {}: queue file size limit exceeded": "postfix/cleanup: queue file size limit exceeded",
    "cleanup[1]: {}: removed (canceled)": "",
    "qmgr[1]: {}: from=<>, size=5, nrcpt=1 (queue active)": "",
}


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_postfix(line: str) -> None:
    """In plain words; one of another kind as it is."""
    found = postfix.line(f"{AT}/{line.format(ID)}".encode())
    assert found
    assert found.queue_id == ID
    assert postfix.event(found).text == LINES[line]


@pytest.mark.parametrize(
    "text",
    [
        "warning: hostname x.example does not resolve to address 192.0.2.7",
        "connect from unknown[192.0.2.7]",
        f"connect to {ID}: c.example[192.0.2.9]:25: Connection refused",
        "SSL_accept error from unknown[192.0.2.7]: lost connection",
        "NOQUEUE: lost connection after CONNECT from unknown[192.0.2.7]",
    ],
)
def test_a_line_about_no_message(text: str) -> None:
    """No word of it is taken for a queue id."""
    found = postfix.line(f"{AT}/smtpd[1]: {text}".encode())
    assert found
    assert found.queue_id in {"", "NOQUEUE"}


EVIL = (
    f'"a>, to=<victim@a.example>, relay=none, delay=0, delays=0, dsn=5.0.0, status=bounced ({ID}: removed) "@e.example'
)
HOSTILE = {
    f"qmgr[1]: {ID}: from=<{EVIL}>, size=5, nrcpt=1 (queue active)": (EVIL, ()),
    f"smtp[1]: {ID}: to=<{EVIL}>, relay=none, delay=0, delays=0/0/0/0, dsn=4.0.0, status=deferred (x)": (None, (EVIL,)),
    f"smtpd[1]: {ID}: reject: RCPT from unknown[192.0.2.7]: 550 5.1.1 <{EVIL}>: no; from=<{EVIL}> to=<user@a.example> "
    "proto=ESMTP helo=<a?; from=?>": (EVIL, ("user@a.example",)),
    f'smtpd[1]: {ID}: reject: RCPT from unknown[192.0.2.7]: 550 5.1.1 no; from=<"; from=<v@a.example> to=<"@e.example> '
    "to=<user@a.example> proto=ESMTP helo=<h>": ('"; from=<v@a.example> to=<"@e.example', ("user@a.example",)),
    f"smtp[1]: {ID}: to=<y@c.example>, relay=e.example[192.0.2.9]:25, {SENT} (250 to=<victim@a.example>, relay=none, "
    "delay=0, delays=0, dsn=5.0.0, status=bounced (x))": (None, ("y@c.example",)),
    f"cleanup[1]: {ID}: message-id=<{OTHER}: from=<v@a.example>, size=5, nrcpt=1 (queue active)": (None, ()),
    f"smtpd[1]: {ID}: reject: RCPT from unknown[192.0.2.7]: 550 5.1.1 <{'a' * 1900}": (None, ()),
}


@pytest.mark.parametrize("line", HOSTILE, ids=lambda one: one[:40])
def test_what_looks_like_a_part_of_the_line(line: str) -> None:
    """An address ends where Postfix ends it, and a reply names nobody."""
    found = postfix.line(f"{AT}/{line}".encode())
    assert found
    assert found.queue_id == ID
    event = postfix.event(found)
    assert (event.about.get("sender"), event.recipients) == HOSTILE[line]


def test_the_last_verdicts() -> None:
    """Status shows five, without what a stranger wrote for a terminal; other lines of the log are none."""
    other = [b"dmarc: started", b"{", f"dmarc: {ID}: action=reject reason='signed by nobody'".encode()]
    lines = []
    for at in range(7):
        verdict = VERDICT | {"queue_id": f"3F2A8{at}", "envelope_from": f"<x\x1b[31m{at}@b.example>"}
        lines += [Line(f"2026-11-30T12:13:0{at}.000000001Z", one) for one in (json.dumps(verdict).encode(), *other)]
    found = verdicts(lines)
    assert [one["queue_id"] for one in found] == [f"3F2A8{at}" for at in range(2, 7)]
    data = status_data(stack(), [], Queued(0), {}, {}, built=True, latest=found)
    shown = [line for line in status_text(data).splitlines() if line.startswith("verdict")]
    assert len(shown) == 5
    assert shown[0].startswith("verdict    2026-11-30 12:13 UTC, 3F2A82, from x?[31m2@b.example: SPF pass")


def test_a_verdict_is_what_it_seems() -> None:
    """A field that looks like another message's line is part of a JSON string; a line that was cut says nothing."""
    evil = f'x"}}\n{{"time": 1, "queue_id": "{OTHER}", \x1b[31m\x9b'
    said = json.dumps(VERDICT | {"from": evil, "message_id": f"<{evil}>", "action": "reject", "reason": evil})
    found = judges.line("dmarc", said.encode())
    assert found
    assert found.queue_id == ID
    assert found.event.text.isprintable()
    assert all(str(one).isprintable() for one in found.event.about.values())
    assert judges.line("dmarc", said[:-5].encode()) is None
    assert judges.line("dmarc", b'{"time": 1, "queue_id": "%b", "action": "accept"}' % ID.encode()) is None
    assert judges.line("dmarc", b"dmarc: since 2026-11-28T09:00:00Z: reject 3 (DMARC 2)") is None


JUDGED = {
    ("policyd-spf", f"policyd-spf: {ID}: client=192.0.2.7 identity=none domain='' result=forwarder action=PREPEND"): (
        "SPF not checked: forwarder"
    ),
    (
        "policyd-spf",
        (
            f"policyd-spf: {ID}: client=192.0.2.7 identity=mailfrom domain='no.example' result=none "
            "action=reject_unknown_sender_domain"
        ),
    ): "SPF none (no.example); the domain has neither MX nor address",
    (
        "policyd-spf",
        f"policyd-spf: {ID}: client=192.0.2.7 identity=helo domain='b.example' result=permerror action=550 reason='x:y'",
    ): "SPF permerror (b.example: x:y); policyd-spf answers 550",
    ("opendkim", f"Nov 30 12:13:26 opendkim[1]: {ID}: DKIM-Signature field added (s=default, d=a.example)"): (
        "signed with DKIM for a.example, selector default"
    ),
    ("opendkim", f"Nov 30 12:13:26 opendkim[1]: {ID}: no signing table match for 'x@b.example'"): (
        "not signed with DKIM: x@b.example is not of a domain that is signed here"
    ),
    ("dmarc", f"dmarc: {ID}: action=reject reason='the message has more than one From field'"): (
        "dmarc: reject: the message has more than one From field"
    ),
    ("dmarc", f"dmarc: {ID}: error=TimeoutError() action=defer"): "dmarc: defer: internal error",
    ("dmarc", f"dmarc: {ID}: added Message-ID <1@a.example>"): "got the Message-ID <1@a.example>",
}


@pytest.mark.parametrize("line", JUDGED, ids=lambda one: one[1][:40])
def test_a_line_of_the_others(line: tuple[str, str]) -> None:
    """In plain words."""
    found = judges.line(line[0], line[1].encode())
    assert found
    assert (found.queue_id, found.event.text) == (ID, JUDGED[line])
    assert judges.line(line[0], line[1].encode(), {OTHER}) is None


def test_tls_is_the_connection_that_the_message_took(trace: Trace) -> None:
    """A process that spoke TLS for one message may send the next one in clear, by a new connection or one taken over."""
    relay, tls = "relay=c.example[192.0.2.9]:25", f"TLS connection established to c.example[192.0.2.9]:25: {TLS}"
    lines = f"""
smtp[1]: Verified {tls}
smtp[1]: {OTHER}: to=<1@c.example>, {relay}, {SENT} (250)
smtp[1]: {ID}: to=<clear@c.example>, {relay}, {SENT} (250)
smtp[1]: Verified {tls}
smtp[1]: {ID}: to=<both@c.example>, {relay}, {SENT} (250)
smtp[1]: {ID}: to=<two@c.example>, {relay}, {SENT} (250)
smtp[2]: Untrusted {tls}
smtp[2]: {ID}: to=<other@c.example>, relay=d.example[192.0.2.9]:25, {SENT} (250)
smtp[3]: Untrusted {tls}
smtp[3]: {ID}: to=<again@c.example>, {relay}, conn_use=2, {SENT} (250)
smtp[5]: Untrusted TLS connection reused to c.example[192.0.2.9]:25: {TLS}
smtp[5]: {ID}: to=<taken@c.example>, {relay}, conn_use=2, {SENT} (250)
smtpd[4]: Anonymous TLS connection established from unknown[192.0.2.7]: {TLS}
smtpd[4]: connect from unknown[192.0.2.7]
smtpd[4]: {ID}: client=unknown[192.0.2.7]
"""
    said = dict(
        re.findall(r"(\w+)@c\.example through \S+ \S+( over .*)?: 250", trace(ID, postfix=of_postfix(lines)).stdout)
    )
    verified = " over TLS 1.3, certificate verified"
    assert said == {"both": verified, "two": verified, "taken": " over TLS 1.3", "clear": "", "other": "", "again": ""}
    assert "received from [192.0.2.7]\n" in trace(ID, postfix=of_postfix(lines)).stdout


def test_a_notice(trace: Trace) -> None:
    """Its line comes when it may be delivered already; both messages name the other."""
    lines = f"""
cleanup[9]: {OTHER}: message-id=<{OTHER}@mail.a.example>
qmgr[1]: {OTHER}: from=<>, size=3098, nrcpt=1 (queue active)
virtual[1]: {OTHER}: to=<user@a.example>, relay=virtual, {SENT} (delivered to maildir)
qmgr[1]: {OTHER}: removed
bounce[1]: {ID}: sender non-delivery notification: {OTHER}
"""
    assert steps(trace(OTHER, postfix=of_postfix(lines))) == [
        f"notice of non-delivery to the sender, about {ID}",
        "delivered to the mailbox user@a.example",
        "removed from the queue: done",
    ]
    assert f"  notice of non-delivery to the sender: {OTHER}\n" in trace(ID, postfix=of_postfix(lines)).stdout


FORWARDED = f"""
smtpd[1]: {ID}: client=mx.b.example[192.0.2.7]
qmgr[1]: {ID}: from=<x@b.example>, size=541, nrcpt=1 (queue active)
forwarded/smtpd[2]: connect from localhost[127.0.0.1]
forwarded/smtpd[2]: {OTHER}: client=localhost[127.0.0.1]
cleanup[3]: {OTHER}: message-id=<2@b.example>
qmgr[1]: {OTHER}: from=<SRS0=abcdef=JT=b.example=x@mail.a.example>, size=541, nrcpt=1 (queue active)
forward/smtp[4]: {ID}: to=<y@c.example.srs.invalid>, orig_to=<away@a.example>, relay=127.0.0.1[127.0.0.1]:10024, {SENT} (250 2.0.0 Ok: queued as {OTHER})
qmgr[1]: {ID}: removed
smtp[5]: {OTHER}: to=<y@c.example>, orig_to=<y@c.example.srs.invalid>, relay=c.example[192.0.2.9]:25, {SENT} (250 2.0.0 Ok: queued as 4jdNGH17sGz6MC3)
qmgr[1]: {OTHER}: removed
"""
SECOND_PASS = [
    "comes in once more, on its way to another server (SRS)",
    f"was received as {ID}",
    "delivered to y@c.example through c.example [192.0.2.9]: 250 2.0.0 Ok: queued as 4jdNGH17sGz6MC3",
    "removed from the queue: done",
]


def test_forwarded_mail(trace: Trace) -> None:
    """With SRS it goes on under another queue id, which is shown with it, and nobody's address has the mark."""
    lines = of_postfix(FORWARDED)
    first = [
        "received from mx.b.example [192.0.2.7]",
        f"forwarded for away@a.example to y@c.example: goes on as {OTHER}",
        "removed from the queue: done",
    ]
    done = trace(ID, postfix=lines)
    assert steps(done) == [*first, *SECOND_PASS]
    assert f"{OTHER}  from SRS0=abcdef=JT=b.example=x@mail.a.example to y@c.example\n" in done.stdout
    assert "invalid" not in done.stdout
    assert steps(trace(OTHER, postfix=lines)) == SECOND_PASS
    for address in ("x@b.example", "away@a.example", "y@c.example"):
        data = json.loads(trace(address, "--since", "2020-01-01", "--json", postfix=lines).stdout)
        found = [(one["queue_id"], one["forwarded_as"], one["about"]) for one in data["messages"]]
        assert found == [(ID, [OTHER], None), (OTHER, [], ID)]


def test_a_short_queue_id_that_is_used_again(trace: Trace) -> None:
    """Each message has its own lines, those of other services by their time."""
    lines = of_postfix(POSTFIX.replace(ID, "3F2A81") * 2).replace("2@b.example", "1@b.example", 1)
    verdicts = "\n".join(["x"] * 4 + [DMARC.replace(ID, "3F2A81")] + ["x"] * 8 + [DMARC.replace(ID, "3F2A81")])
    done = trace("3F2A81", postfix=lines, dmarc=verdicts)
    first, second = done.stdout.split("\n\n")[1:]
    assert first.count("DMARC pass") == second.count("DMARC pass") == 1
    assert first.count("removed") == second.count("removed") == 1
    assert "Message-ID <1@b.example>" in first
    assert "Message-ID <2@b.example>" in second
    only = trace("<1@b.example>", postfix=lines, dmarc="")
    assert only.stdout == f"times are UTC\n\n{only.stdout.split(chr(10) * 2)[1]}"


def test_a_message_that_is_given_up(trace: Trace) -> None:
    """Who waited for it to the end gets it no more; who had it before keeps it."""
    sent = f"smtp[1]: {ID}: to=<x@c.example>, relay=mx.c.example[192.0.2.9]:25, delay=3, delays=0/0/3/0, dsn=2.0.0, status=sent (250)"
    deferred = (
        f"smtp[1]: {ID}: to=<y@c.example>, relay=none, delay=3, delays=0/0/3/0, dsn=4.4.1, status=deferred (no route)"
    )
    ended = f"qmgr[1]: {ID}: from=<x@b.example>, status=expired, returned to sender"
    lines = f"{AT}/{CLIENT}\n" + of_postfix(f"{sent}\n{deferred}\n{ended}\n")
    found = json.loads(trace(ID, "--json", postfix=lines).stdout)
    outcomes = {one["recipient"]: one["outcome"] for one in found["messages"][0]["outcomes"]}
    assert outcomes == {"x@c.example": "delivered", "y@c.example": "bounced"}


def test_a_message_that_waits(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same failure the first and the last time are shown; and when it is tried next, if Postfix says so."""
    deferred = f"smtp[1]: {ID}: to=<y@c.example>, relay=none, delay=3, delays=0/0/3/0, dsn=4.4.1, status=deferred"
    lines = f"{AT}/{CLIENT}\n" + of_postfix(f"{deferred} (no route)\n" * 9 + f"{deferred} (refused)\n")
    done = trace(ID, postfix=lines)
    assert steps(done)[1:] == [
        "deferred for y@c.example: no route",
        "deferred for y@c.example: no route (9 times)",
        "deferred for y@c.example: refused",
    ]
    engine = Engine(postfix=lines)
    monkeypatch.setattr(task, "Queue", lambda *_: SimpleNamespace(places=lambda ids: {ID: ("deferred", 1796041228.5)}))
    monkeypatch.setattr(connection, "connect", lambda: engine)
    done = CliRunner().invoke(main, ["trace", ID])
    assert done.stdout.endswith("\nin the queue: next try after 2026-11-30 12:20:28\n")
    done = CliRunner().invoke(main, ["trace", "y@c.example", "--since", "2020-01-01"])
    assert done.stdout.splitlines()[2:] == [
        "    deferred for y@c.example: refused",
        "    in the queue: next try after 2026-11-30 12:20:28",
    ]
    monkeypatch.setattr(task, "Queue", lambda *_: SimpleNamespace(places=lambda ids: {ID: ("hold", 1796041228.5)}))
    done = CliRunner().invoke(main, ["trace", ID])
    assert done.stdout.endswith(f" queue release {ID}\n")

    def down(*_: object) -> None:
        raise EngineError("postfix of mail-a-example does not run")

    monkeypatch.setattr(task, "Queue", down)
    done = CliRunner().invoke(main, ["trace", ID])
    assert (done.exit_code, "in the queue" in done.stdout) == (0, False)
    assert done.stderr.endswith(
        "warning: what is still in the queue is not known: postfix of mail-a-example does not run\n"
    )


def test_bounds(trace: Trace) -> None:
    """Of a message so many lines are kept, of an address so many messages, the newest; and both say so."""
    deferred = "".join(
        f"smtp[1]: {ID}: to=<{at}@c.example>, relay=none, delay=3, delays=0/0, dsn=4.4.1, status=deferred (no route)\n"
        for at in range(2000)
    )
    found = json.loads(trace(ID, "--json", postfix=of_postfix(f"{CLIENT}\n{deferred}")).stdout)["messages"][0]
    assert (len(found["events"]), found["left_out"]) == (500, 1501)
    assert found["events"][0]["event"] == "received"
    assert found["events"][-1]["text"] == "deferred for 1999@c.example: no route"
    ids = [f"4jd{at:012}" for at in range(1000)]
    sent = "".join(f"qmgr[1]: {one}: from=<x@b.example>, size=5, nrcpt=1 (queue active)\n" for one in ids)
    done = trace("x@b.example", "--since", "2020-01-01", "--json", postfix=of_postfix(sent))
    assert [one["queue_id"] for one in json.loads(done.stdout)["messages"]] == ids[-100:]
    assert done.stderr.endswith("warning: only the newest 100 messages are shown\n")


def test_services_without_a_log(trace: Trace) -> None:
    """What can be read is shown, and what is missing is said."""
    broken = frame(f"{DMARC}\n".encode()) + frame(b"Error grabbing logs: invalid character '\\x00'", kind=3)
    done = trace(ID, dmarc=broken, policyd_spf=SPF)
    assert steps(done) == ["SPF pass (b.example), DKIM pass (b.example), DMARC pass (b.example)"]
    assert "(the log no longer has its beginning)" in done.stdout
    assert done.stderr.splitlines() == [
        "warning: postfix has no container, and so no log",
        "warning: opendkim has no container, and so no log",
        "warning: the log of dmarc cannot be read: Error grabbing logs: invalid character '\\x00'",
    ]


def test_nothing_is_found(trace: Trace) -> None:
    """It says how far back the logs go, and from when on they were read; nothing of what was typed steers a terminal."""
    done = trace("4jdNGG5B4Fz6LlX", **ALL)
    begins = ", ".join(f"2026-11-30 12:13 UTC ({one})" for one in ("postfix", "opendkim", "policyd-spf", "dmarc"))
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == f"error: 4jdNGG5B4Fz6LlX: not in the logs; they begin at {begins}\n"
    done = trace("nobody@\x1b[31m.example", "--since", "2020-11-30T12:13", **ALL)
    assert done.stderr == (
        f"error: nobody@?[31m.example: not in the logs since 2020-11-30 12:13 UTC; they begin at {begins}\n"
    )
    done = trace(ID)
    assert done.exit_code == 4
    assert "mail-a-example was not started, so there are no logs; run: " in done.stderr


def test_since(trace: Trace) -> None:
    """The engine sends nothing older where an address is looked for; then each message is read from its beginning."""
    engine = Engine(**ALL)
    assert trace("x@b.example", "--since", "2020-01-01T12:00", engine=engine).exit_code == 0
    assert engine.since == ["1577880000.000000000"] * 2 + ["0.000000000"] * 4
    engine = Engine(**ALL)
    trace("x@b.example", engine=engine)
    assert [round((time.time() - float(one)) / 3600) for one in engine.since[:2]] == [24, 24]


@pytest.mark.parametrize("since", ["", "5", "5x", "-1h", "2026", "30.11.2026", "9999-01-01", "99999999d"])
def test_a_bad_since(trace: Trace, since: str) -> None:
    """It is named, with what would be right."""
    done = trace(ID, "--since", since, **ALL)
    assert done.exit_code == 2
    assert f"{since!r} is no" in done.stderr
    assert "12h" in done.stderr


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (ID, Wanted(queue_id=ID)),
        ("3F2A81", Wanted(queue_id="3F2A81")),
        ("User@Bücher.example", Wanted(address="user@xn--bcher-kva.example", message_id="User@B??cher.example")),
        ("<1@b.example>", Wanted(message_id="1@b.example")),
        (" <1@[192.0.2.1]> ", Wanted(message_id="1@[192.0.2.1]")),
        ("1@x_y", Wanted(message_id="1@x_y")),
    ],
)
def test_what_a_person_may_mean(text: str, found: Wanted) -> None:
    """A queue id, a Message-ID as Postfix logs it, or an address as it stands in its log."""
    assert wanted(text) == found


@pytest.mark.parametrize("text", ["", "NOQUEUE", "warning", "<>", "--all", "a.example", ID + "é", "x" * 5000])
def test_what_is_nothing_of_the_kind(text: str) -> None:
    """It says what would be."""
    with pytest.raises(MailstackError, match="is not a queue id, a Message-ID or an address; write, for example"):
        wanted(text)


def test_nothing_was_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no log, and no engine is asked."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["trace", ID])
    assert (done.exit_code, done.stderr) == (1, f"error: {tmp_path}: nothing was built here; run: mailstack build\n")


def test_long_lines() -> None:
    """The engine sends them in parts, each with the time of the line, those of stdout and stderr mixed."""
    engine: Any = Engine(
        a=frame(b"x" * 16384) + frame(b"err\n", 2) + frame(b"y" * 16384) + frame(b"z\n") + frame(b"no end", 1)
    )
    assert [one.text for one in Log(engine, "a", "a").lines()] == [
        b"err",
        b"x" * 16384 + b"y" * 16384 + b"z",
        b"no end",
    ]


@pytest.mark.parametrize(
    ("said", "fault"),
    [(b"2026-11-30T12:13:26Z a terminal\n", "tty: true"), (frame(b"x\n") + frame(b"broken", kind=3), "broken")],
)
def test_a_log_that_cannot_be_read(said: bytes, fault: str) -> None:
    """It ends with the reason."""
    engine: Any = Engine(a=said)
    with pytest.raises(EngineError, match=f"the log of a cannot be read: .*{fault}"):
        list(Log(engine, "a", "a").lines())
