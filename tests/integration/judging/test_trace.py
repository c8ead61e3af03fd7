"""mailstack trace: what happened to a message, from the logs of all services, as a person asks for it."""

import re
import subprocess
import time
from dataclasses import dataclass
from typing import Any

import pytest

from integration.conftest import MAILSTACK, run_in
from mailstack.cli.trace import trace_text
from mailstack.errors import EngineError, MailstackError
from mailstack.tasks import trace as task
from mailstack.world.containers import Machine, wait_for
from mailstack.world.site import Site, parse
from support import Client, address_of, delivered, message, send, subject

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  "


def trace(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_in(site.directory, *MAILSTACK, "trace", *arguments)


def found(site: Site, what: str) -> dict[str, Any]:
    """What the command prints as JSON, without a process for it."""
    try:
        return task.trace(site.directory, what, None, time.time())
    except MailstackError:
        return {"by_address": False, "messages": []}


def traced(site: Site, what: str) -> list[dict[str, Any]]:
    """The messages, once the log has some."""
    return wait_for(lambda: found(site, what)["messages"], f"no trace of {what}")


def text_with(site: Site, what: str, *words: str) -> str:
    """The text of a trace, once it has these words."""

    def text() -> str:
        shown = trace_text(found(site, what))
        return shown if all(one in shown for one in words) else ""

    return wait_for(text, f"{words} is not in the trace of {what}", seconds=60)


def message_id(content: bytes) -> str:
    return str(parse(content)["Message-ID"])


@dataclass(frozen=True)
class Kind:
    """A message, and what its trace says in this order; {} is the address of the client, {b} that of bravo."""

    target: str
    sender: str
    recipient: str
    author: str
    says: tuple[str, ...]
    outcome: str
    port: int = 25


RECEIVED, DONE = r"received from \[{}\]", "removed from the queue: done"
KINDS = {
    "delivered": Kind(
        *("bravo", "someone@listed.example", "user@bravo.example", "someone@listed.example"),
        (
            RECEIVED,
            r"SPF pass \(listed.example\), no DKIM signature, DMARC none \(listed.example\)",
            "delivered to the mailbox user@bravo.example",
            DONE,
        ),
        "delivered",
    ),
    "deferred": Kind(
        *("alpha", "someone@listed.example", "late@alpha.example", "someone@listed.example"),
        (
            RECEIVED,
            "SPF pass .*",
            # Where other mail has met the same host before, Postfix does not try again at once.
            (
                r"deferred for user@late.example \(by the alias late@alpha.example\): "
                r"(?:delivery temporarily suspended: )?connect to late.example.*"
            ),
        ),
        "deferred",
    ),
    "rejected": Kind(
        *("bravo", "someone@fail.example", "user@bravo.example", "someone@fail.example"),
        (
            RECEIVED,
            r"SPF fail \(fail.example\), no DKIM signature, DMARC none \(fail.example\); reject: SPF fail: .*",
            "rejected after DATA: 5.7.23 SPF fail: .*",
        ),
        "rejected",
    ),
    "quarantined": Kind(
        *("bravo", "someone@listed.example", "user@bravo.example", "user@bravo.example"),
        (
            RECEIVED,
            r"SPF pass \(listed.example\), no DKIM signature, DMARC fail \(bravo.example\); quarantine: From uses our .*",
            "delivered to the mailbox user@bravo.example, folder Junk",
            DONE,
        ),
        "quarantined",
    ),
    "discarded": Kind(
        *("bravo", "user@bravo.example", "user@bravo.example", "someone@listed.example"),
        (
            RECEIVED,
            r"SPF fail \(bravo.example\), .*; discard: MAIL FROM uses our domain bravo.example .*",
            "discarded after DATA: answered with 250, and not delivered",
        ),
        "discarded",
    ),
    "forwarded": Kind(
        *("alpha", "user@alpha.example", "away@alpha.example", "user@alpha.example"),
        (
            r"submitted by \[{}\]",
            "signed with DKIM for alpha.example, selector default",
            (
                r"forwarded for away@alpha.example to user@bravo.example through mail.bravo.example \[{b}\] over TLS 1.3: "
                "250 2.0.0 Ok: queued as .*"
            ),
            DONE,
        ),
        "forwarded",
        587,
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_kind(name: str, alpha: Site, bravo: Site, outsider: Machine, insider: Machine) -> None:
    """By Message-ID, and by the queue id that this names: the way in order, one line for each step, in plain words."""
    kind = KINDS[name]
    site = {"alpha": alpha, "bravo": bravo}[kind.target]
    client = insider if kind.port == 587 else outsider
    content = message(kind.author, kind.recipient, subject(name))
    send(client, address_of(site), kind.sender, kind.recipient, content, port=kind.port)
    says = [one.replace("{}", str(client.address)).replace("{b}", address_of(bravo)) for one in kind.says]

    def text() -> str:
        shown = trace_text(found(site, message_id(content)))
        steps = [line for line in shown.splitlines() if re.match(TIME, line)]
        right = len(steps) == len(says) and all(map(re.fullmatch, (TIME + one for one in says), steps))
        if not right or ("\nin the queue: next try after 2" in shown) != (name == "deferred"):
            raise EngineError(shown)
        return shown

    shown = wait_for(text, f"not {says}", seconds=60)
    first, empty, heading, named = shown.splitlines()[:4]
    assert (first, empty) == ("times are UTC", "")
    assert f"  from {kind.sender} to {kind.recipient}" in heading
    assert named.startswith(f"Message-ID {message_id(content)}")
    (one,) = traced(site, message_id(content))
    assert {each["outcome"] for each in one["outcomes"]} == {kind.outcome}
    assert (one["sender"], one["recipients"][0], one["complete"]) == (kind.sender, kind.recipient, True)
    done = trace(site, one["queue_id"])
    assert (done.returncode, done.stdout, done.stderr) == (0, shown, "")
    if name == "deferred":
        site.run("postfix", "postsuper", "-d", one["queue_id"])
        text_with(site, one["queue_id"], "deleted from the queue by an administrator")


def test_forwarded_by_srs(delta: Site, bravo: Site, outsider: Machine) -> None:
    """With SRS a message has a second queue id on its way; each leads to the other, and the way is shown to its end."""
    recipient = "out@delta.unsigned.example"
    content = message("someone@listed.example", recipient, subject("by SRS"))
    reply = send(outsider, address_of(delta), "someone@listed.example", recipient, content)
    first = reply.text.rsplit(maxsplit=1)[-1]
    text_with(delta, first, f"\nMessage-ID {message_id(content)}", "delivered to user@bravo.example through", DONE)
    one, again = traced(delta, first)
    assert (one["queue_id"], one["forwarded_as"], again["about"]) == (first, [again["queue_id"]], first)
    assert again["sender"].startswith("SRS0=")
    assert (one["recipients"], again["recipients"]) == ([recipient, "user@bravo.example"], ["user@bravo.example"])
    (begins, _) = (row["text"] for row in again["events"][:2])
    assert begins == "comes in once more, on its way to another server (SRS)"
    (outcome,) = one["outcomes"]
    assert outcome["text"] == f"forwarded for {recipient} to user@bravo.example: goes on as {again['queue_id']}"
    (last,) = traced(delta, again["queue_id"])
    assert {each["outcome"] for each in last["outcomes"]} == {"delivered"}


def test_notice(alpha: Site, bravo: Site, insider: Machine) -> None:
    """Of what bounces, the trace names the notice's queue id; and of the notice the message that it is about."""
    content = message("user@alpha.example", "nobody@bravo.example", subject("bounces"))
    send(insider, address_of(alpha), "user@alpha.example", "nobody@bravo.example", content, port=587)
    text = text_with(alpha, message_id(content), "notice of non-delivery to the sender: ", DONE)
    assert "not delivered to nobody@bravo.example: host mail.bravo.example" in text
    (one,) = traced(alpha, message_id(content))
    (notice,) = one["notices"]
    text = text_with(alpha, notice, "delivered to the mailbox user@alpha.example")
    assert f"  notice of non-delivery to the sender, about {one['queue_id']}\n" in text
    assert traced(alpha, notice)[0]["about"] == one["queue_id"]


def test_without_a_message_id(alpha: Site, bravo: Site, insider: Machine) -> None:
    """The Message-ID that dmarc adds finds the message where it was added, too."""
    about = subject("no id")
    content = f"From: user@alpha.example\r\nTo: user@bravo.example\r\nSubject: {about}\r\n\r\nx\r\n".encode()
    send(insider, address_of(alpha), "user@alpha.example", "user@bravo.example", content, port=587)
    added = str(parse(delivered(bravo, "user@bravo.example", about))["Message-ID"])
    text_with(alpha, added, f"got the Message-ID {added}", "delivered to user@bravo.example through", "over TLS 1.3")


def test_by_address(bravo: Site, outsider: Machine) -> None:
    """All from and to an address, the newest last, by each recipient; also what was rejected without a queue id."""
    sender = re.sub(r"\W", "", subject("several")) + "@listed.example"
    with Client(outsider, address_of(bravo)) as client:
        client.ehlo()
        assert client.docmd(f"MAIL FROM:<{sender}> SIZE=999999999")[0] == 552
        client.rset()
        client.mail(sender)
        replies = [client.rcpt(f"{one}@bravo.example")[0] for one in ("none", "sales", "corpora")]
        assert replies == [550, 250, 250]
        assert client.data(message(sender, "user@bravo.example", subject("several")))[0] == 250
        client.mail(sender)
        client.rcpt("user@bravo.example")
        client.rcpt("corpora@bravo.example")
        assert client.data(message("a@none.example, b@none.example", "user@bravo.example", subject("x")))[0] == 550
    text = text_with(bravo, sender, "mailbox corpora", "mailbox user", "; reject: ")
    blocks = [block.splitlines() for block in re.split(rf"^{TIME}", text, flags=re.MULTILINE)[1:]]
    assert [block[0].split()[0] == "(no" for block in blocks] == [True, False, False]
    assert blocks[0][1].startswith("    rejected at MAIL FROM: 552 5.3.4 Message size exceeds fixed limit; from [")
    assert sorted(blocks[1][1:]) == [
        "    delivered to the mailbox corpora@bravo.example",
        "    delivered to the mailbox user@bravo.example (by the alias sales@bravo.example)",
        (
            "    rejected at RCPT: 550 5.1.1 <none@bravo.example>: Recipient address rejected: User unknown in virtual "
            "mailbox table"
        ),
    ]
    assert blocks[2][0].endswith(f"from {sender} to user@bravo.example, corpora@bravo.example")
    assert "    rejected after DATA: 5.7.1 " in "\n".join(blocks[2])
    for recipient, count in (("none", 1), ("sales", 1), ("corpora", 2), ("USER", 2)):
        ours = [one for one in traced(bravo, f"{recipient}@bravo.example") if one["sender"] == sender]
        assert len(ours) == count, recipient
    done = trace(bravo, "nobody@nowhere.example", "--since", "2h")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(
        r"not in the logs since .* UTC; they begin at \S+ \S+ UTC \(postfix\), .* UTC \(dmarc\)", done.stderr
    )


def test_hostile_content(bravo: Site, outsider: Machine) -> None:
    """What a stranger writes says nothing in another message's trace, and steers no terminal."""
    content = message("someone@listed.example", "user@bravo.example", subject("victim"))
    reply = send(outsider, address_of(bravo), "someone@listed.example", "user@bravo.example", content)
    victim = reply.text.rsplit(maxsplit=1)[-1]
    before = text_with(bravo, victim, "DMARC none", DONE)
    line = f"{victim}: to=<x@evil.example>, relay=none, delay=1, delays=0/0/0/0, dsn=5.0.0, status=bounced (evil)"
    evil = f"\x1b[31m\r\n Nov 30 12:00:00 mail postfix/smtp[1]: {line}\r\n {line}{'x' * 10_000}"
    sender = f'"{line}>, size=1, nrcpt=1 (queue active)"@listed.example'
    fields = [f"From: {sender}", f"Subject: {evil}", f"Message-ID: <{evil}@evil.example>"]
    with Client(outsider, address_of(bravo), helo=f"\x1b]0;x\x07{line}") as client:
        client.ehlo()
        assert client.mail(sender)[0] == 250
        assert client.rcpt("none@bravo.example")[0] == 550
        assert client.rcpt("user@bravo.example")[0] == 250
        code, said = client.data(("\r\n".join(fields) + "\r\n\r\nx\r\n").encode())
    # Postfix says it in its reply, or dmarc in its own.
    assert code in {250, 550}, said
    (own,) = [one for one in bravo.log("postfix") if f"{victim}: to=<x@evil.example>" in one and "reject: RCPT" in one]
    (one,) = traced(bravo, own.split("]: ")[1].split(": ")[0])
    assert one["sender"] == sender
    assert "x@evil.example" not in one["recipients"]
    for what in (one["queue_id"], "user@bravo.example"):
        done = trace(bravo, what)
        assert done.returncode == 0, done.stderr
        assert done.stdout.replace("\n", "").isprintable()
    assert trace(bravo, victim).stdout == before
    assert trace(bravo, "x@evil.example").returncode == 1
