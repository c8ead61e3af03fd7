"""Parts die: mail waits, nothing leaves unsigned, nothing comes in unchecked, and all of it arrives once."""

import json
import re
import smtplib
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Self

import docker
import pytest

from integration.breaking.test_health import SUPERVISED, signal_worker, wait_healthy
from mailstack.services import SERVICE_NAMES
from mailstack.world.containers import Machine, wait_for
from mailstack.world.internet import Internet
from mailstack.world.site import Site, parse
from support import (
    Client,
    address_of,
    count,
    delivered,
    flush_until_delivered,
    independent_dkim,
    internal_id,
    message,
    own_results,
    received_spf,
    send,
    signed_part,
    spf_result,
    subject,
    subject_of,
)


def assert_once_and_signed(content: bytes, target: Site, mailbox: str, world: Internet) -> None:
    assert count(target, mailbox, parse(content)["Subject"]) == 1
    assert len(parse(content).get_all("DKIM-Signature")) == 1
    assert [one.result for one in own_results(content, target)] == ["pass", "pass", "pass"]
    assert independent_dkim(content, world.names)


@pytest.fixture
def stopped(request: pytest.FixtureRequest, foxtrot: Site) -> Iterator[str]:
    """Foxtrot without one of its services."""
    wait_healthy(foxtrot)
    foxtrot.compose("stop", request.param)
    yield request.param
    foxtrot.compose("start", request.param)
    wait_healthy(foxtrot)


@pytest.mark.parametrize("stopped", ["opendkim", "policyd-spf", "dmarc", "resolver"], indirect=True)
def test_a_service_is_down(
    stopped: str, world: Internet, outsider: Machine, insider: Machine, foxtrot: Site, bravo: Site
) -> None:
    """Inbound gets 4xx. Submission gets 4xx, or is signed as ever where its way does not lead through that service."""
    inbound, outbound, local = (subject(f"{kind} without {stopped}") for kind in ("inbound", "outbound", "local"))
    content = message("someone@listed.example", "user@foxtrot.example", inbound)

    def try_inbound() -> int:
        reply = send(outsider, address_of(foxtrot), "someone@listed.example", "user@foxtrot.example", content)
        return reply.code

    submitted = message("user@foxtrot.example", "user@bravo.example", outbound)

    def try_outbound() -> int:
        return send(
            insider, address_of(foxtrot), "user@foxtrot.example", "user@bravo.example", submitted, port=587
        ).code

    # Both at once: without the resolver each waits for DNS.
    with ThreadPoolExecutor(2) as pool:
        refused, code = (one.result() for one in [pool.submit(try_inbound), pool.submit(try_outbound)])
    assert 400 <= refused < 500
    if stopped in {"opendkim", "dmarc"}:
        assert 400 <= code < 500
    else:
        assert code == 250
    foxtrot.sendmail(
        message("user@foxtrot.example", "user@bravo.example", local).replace(b"\r\n", b"\n"),
        "-t",
        "-f",
        "user@foxtrot.example",
    )
    assert count(foxtrot, "user@foxtrot.example", inbound) == 0

    foxtrot.compose("start", stopped)
    wait_healthy(foxtrot)
    # The sender of the refused ones tries again, as a queue would.
    wait_for(lambda: try_inbound() == 250, "inbound mail is not taken again", seconds=60)
    if code != 250:
        assert try_outbound() == 250
    arrived = delivered(foxtrot, "user@foxtrot.example", inbound)
    assert count(foxtrot, "user@foxtrot.example", inbound) == 1
    assert received_spf(arrived).startswith("Pass ")
    assert [one.result for one in own_results(arrived, foxtrot)] == ["pass", "none", "none"]
    for about in (outbound, local):
        assert_once_and_signed(
            flush_until_delivered(foxtrot, bravo, "user@bravo.example", about), bravo, "user@bravo.example", world
        )


def without(service: str, site: Site, outsider: Machine, sender: str, mailbox: str, content: bytes) -> tuple[int, str]:
    """The reply to a message, whose recipient was taken before a service ended; code and status."""
    wait_healthy(site)
    with Client(outsider, address_of(site)) as client:
        client.ehlo()
        assert client.mail(sender)[0] == 250
        assert client.rcpt(mailbox)[0] == 250
        site.compose("stop", service)
        try:
            code, text = client.data(content)
        finally:
            site.compose("start", service)
    return code, text.split()[0].decode()


@pytest.mark.parametrize(
    ("service", "sender", "status"),
    [
        # policyd-spf gets such a local part without its quotes, so that what it has left is not found.
        ("policyd-spf", '"some one"@listed.example', "4.3.0"),
        ("resolver", "someone@listed.example", "4.4.3"),
        ("dmarc", "someone@listed.example", "4.7.1"),
    ],
)
def test_a_service_ends_in_the_middle(service: str, sender: str, status: str, outsider: Machine, foxtrot: Site) -> None:
    """What a service no longer tells of a message whose recipient was taken is no verdict: 451, and once when it is back."""
    about, mailbox = subject(f"{service} ends"), "user@foxtrot.example"
    # An author domain that nobody has asked DNS about, so that no cache knows it.
    content = message(f"someone@{service}.ends.example", mailbox, about)
    assert without(service, foxtrot, outsider, sender, mailbox, content) == (451, status)
    wait_healthy(foxtrot)
    assert count(foxtrot, mailbox, about) == 0
    wait_for(
        lambda: send(outsider, address_of(foxtrot), sender, mailbox, content).code == 250,
        "it is not taken again",
        seconds=60,
    )
    assert [one.result for one in own_results(delivered(foxtrot, mailbox, about), foxtrot)] == ["pass", "none", "none"]
    assert count(foxtrot, mailbox, about) == 1


def test_policyd_spf_ends_when_it_has_judged(outsider: Machine, foxtrot: Site) -> None:
    """It has left what it found, and nobody has to ask."""
    about, mailbox = subject("policyd-spf has judged"), "user@foxtrot.example"
    content = message("someone@listed.example", mailbox, about)
    code, _ = without("policyd-spf", foxtrot, outsider, "someone@listed.example", mailbox, content)
    assert code == 250
    arrived = delivered(foxtrot, mailbox, about)
    assert [one.result for one in own_results(arrived, foxtrot)] == ["pass", "none", "none"]
    assert received_spf(arrived).startswith("Pass ")
    wait_healthy(foxtrot)


# What sendmail took comes from nowhere else.
NOT_TAKEN = re.compile(r"milter-reject: .* from localhost\[127\.0\.0\.1\]: 4\.7\.1 ")


@pytest.mark.parametrize("stopped", ["opendkim", "dmarc"], indirect=True)
def test_sendmail_waits(stopped: str, world: Internet, foxtrot: Site, bravo: Site) -> None:
    """What sendmail took while a milter was down stays in maildrop, and leaves signed."""
    about, lines = subject("maildrop"), len(foxtrot.log("postfix"))
    content = message("user@foxtrot.example", "user@bravo.example", about).replace(b"\r\n", b"\n")
    foxtrot.sendmail(content, "-t", "-f", "user@foxtrot.example")
    wait_for(
        lambda: [one for one in foxtrot.log("postfix")[lines:] if NOT_TAKEN.search(one)],
        "pickup did not try",
    )
    assert foxtrot.run("postfix", "find", "/var/spool/postfix/maildrop", "-type", "f").decode().count("\n") == 1
    assert count(bravo, "user@bravo.example", about) == 0
    foxtrot.compose("start", stopped)
    wait_healthy(foxtrot)
    arrived = flush_until_delivered(foxtrot, bravo, "user@bravo.example", about)
    assert_once_and_signed(arrived, bravo, "user@bravo.example", world)


@pytest.fixture
def charlie_without(request: pytest.FixtureRequest, charlie: Site) -> Iterator[Site]:
    """Charlie, which goes on without milters (milter_default_action=accept), without one of its services."""
    wait_healthy(charlie)
    charlie.compose("stop", request.param)
    yield charlie
    charlie.compose("start", request.param)
    wait_healthy(charlie)


@pytest.mark.parametrize("charlie_without", ["dmarc"], indirect=True)
def test_nothing_is_let_in_unjudged(charlie_without: Site, world: Internet, outsider: Machine, bravo: Site) -> None:
    """Without dmarc mail waits on both ways, whatever milter_default_action says, and each message arrives once."""
    charlie, recipient, sender = charlie_without, "user@charlie.example", "someone@listed.example"
    inbound, outbound = subject("inbound without dmarc"), subject("outbound without dmarc")
    content = message(sender, recipient, inbound)
    reply = send(outsider, address_of(charlie), sender, recipient, content)
    assert (reply.code, reply.text.split()[0]) == (451, "4.7.1")
    lines = len(charlie.log("postfix"))
    submitted = message(recipient, "user@bravo.example", outbound).replace(b"\r\n", b"\n")
    charlie.sendmail(submitted, "-t", "-f", recipient)
    wait_for(
        lambda: [one for one in charlie.log("postfix")[lines:] if NOT_TAKEN.search(one)],
        "pickup did not try",
    )
    (waiting,) = map(json.loads, charlie.run("postfix", "postqueue", "-j").splitlines())
    assert waiting["queue_name"] == "maildrop"
    assert count(charlie, recipient, inbound) == 0
    assert count(bravo, "user@bravo.example", outbound) == 0

    charlie.compose("start", "dmarc")
    wait_healthy(charlie)
    assert send(outsider, address_of(charlie), sender, recipient, content).code == 250
    assert [one.result for one in own_results(delivered(charlie, recipient, inbound), charlie)] == [
        "pass",
        "none",
        "none",
    ]
    assert count(charlie, recipient, inbound) == 1
    arrived = flush_until_delivered(charlie, bravo, "user@bravo.example", outbound)
    assert_once_and_signed(arrived, bravo, "user@bravo.example", world)


@pytest.mark.parametrize("charlie_without", ["opendkim"], indirect=True)
def test_dmarc_judges_without_opendkim(charlie_without: Site, outsider: Machine, alpha: Site, bravo: Site) -> None:
    """Where mail comes in without OpenDKIM, dmarc itself verifies what would align; its verdict is the same."""
    charlie, recipient = charlie_without, "user@charlie.example"
    about, forged = subject("without opendkim"), subject("forged without opendkim")
    # By way of bravo, and from elsewhere: by SPF the author would need no signature.
    sent = message("user@alpha.example", "user@bravo.example", about).replace(b"\r\n", b"\n")
    alpha.sendmail(sent, "-t", "-f", "user@alpha.example")
    signed = signed_part(delivered(bravo, "user@bravo.example", about))
    assert send(outsider, address_of(charlie), "someone@listed.example", recipient, signed).code == 250
    arrived = delivered(charlie, recipient, about)
    assert [one.result for one in own_results(arrived, charlie)] == ["pass", "pass", "pass"]
    changed = signed_part(arrived).replace(b"A body.", b"Another body.").replace(about.encode(), forged.encode())
    assert send(outsider, address_of(charlie), "someone@listed.example", recipient, changed).code == 250
    arrived = delivered(charlie, recipient, forged)
    assert [one.result for one in own_results(arrived, charlie)] == ["pass", "fail", "fail"]


@dataclass
class Stream:
    """Sends message after message from a thread; remembers those that were accepted, and tries refused ones again.

    interval is the time from one try to the next, in seconds.
    """

    machine: Machine
    site: Site
    sender: str
    recipient: str
    port: int
    interval: float = 0.0
    accepted: list[str] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _send(self) -> None:
        about, due = subject("stream"), time.monotonic()
        while not self._stop.wait(due - time.monotonic()):
            due = max(due + self.interval, time.monotonic())
            content = message(self.sender, self.recipient, about)
            try:
                code = send(
                    self.machine, address_of(self.site), self.sender, self.recipient, content, port=self.port
                ).code
            except smtplib.SMTPResponseException as error:
                # The greeting, or another reply that smtplib takes for an error.
                code = error.smtp_code
            except OSError:
                # No connection, or one that broke, perhaps behind the message. smtplib's errors are OSErrors.
                about = subject("stream")
                continue
            if code == 250:
                self.accepted.append(about)
                about = subject("stream")
            else:
                self.refused.append(code)


def kill_nine(site: Site, service: str, client: docker.DockerClient, image: str) -> None:
    """SIGKILL from the host, which the engine takes for a crash, unlike "docker kill"."""
    pid = client.api.inspect_container(site.container(service))["State"]["Pid"]
    client.containers.run(
        image,
        ["sh", "-c", f"kill -9 {pid}"],
        entrypoint="",
        user="0",
        pid_mode="host",
        cap_drop=["ALL"],
        cap_add=["KILL"],
        remove=True,
    )


@pytest.mark.parametrize("service", SERVICE_NAMES)
def test_kill_nine_under_a_stream(
    service: str,
    world: Internet,
    outsider: Machine,
    insider: Machine,
    foxtrot: Site,
    bravo: Site,
    engine_client: docker.DockerClient,
) -> None:
    """PID 1 of a service is killed under a stream in both directions: it comes back by itself, and nothing is lost.

    Nothing arrives twice, unless it was Postfix: what it was handing on when it died, it hands on again.
    """
    wait_healthy(foxtrot)
    waiting = message("user@foxtrot.example", "user@late.example", subject("in the queue")).replace(b"\r\n", b"\n")
    foxtrot.sendmail(waiting, "-f", "user@foxtrot.example", "user@late.example")
    queued = wait_for(lambda: _queue_ids(foxtrot, "user@late.example"), "the message is not in the queue")
    with (
        Stream(insider, foxtrot, "user@foxtrot.example", "user@bravo.example", 587) as outbound,
        Stream(outsider, foxtrot, "someone@listed.example", "user@foxtrot.example", 25) as inbound,
    ):
        wait_for(lambda: len(outbound.accepted) > 3 and len(inbound.accepted) > 3, "mail does not flow")
        kill_nine(foxtrot, service, engine_client, world.image)
        wait_healthy(foxtrot)
        sent, got = len(outbound.accepted), len(inbound.accepted)
        # It was seen to take up to half a minute until a client noticed that its connection had died.
        wait_for(
            lambda: len(outbound.accepted) > sent + 3 and len(inbound.accepted) > got + 3,
            "mail does not flow again",
            seconds=90,
        )
    assert all(400 <= code < 500 for code in outbound.refused + inbound.refused)

    for stream, target in ((outbound, bravo), (inbound, foxtrot)):
        mail = all_of(stream, target)
        expected, signatures = (["pass"] * 3, 1) if target is bravo else (["pass", "none", "none"], 0)
        for one in mail:
            assert [result.result for result in own_results(one, target)] == expected
            assert internal_id(foxtrot) not in one
            assert len(parse(one).get_all("DKIM-Signature", [])) == signatures
        assert_no_copies(mail, handed_on_at_once(foxtrot) if service == "postfix" else 0)
    assert _queue_ids(foxtrot, "user@late.example") == queued
    foxtrot.run("postfix", "postsuper", "-d", *queued)


def all_of(stream: Stream, target: Site) -> list[bytes]:
    """Wait until all that a stream brought into foxtrot has left its queue and lies at the target."""
    wanted = set(stream.accepted)

    def arrived() -> list[bytes] | None:
        stream.site.run("postfix", "postqueue", "-f")
        if _queue_ids(stream.site, stream.recipient):
            return None
        mail = [one for one in target.mail(stream.recipient) if subject_of(one) in wanted]
        return mail if wanted == {subject_of(one) for one in mail} else None

    return wait_for(arrived, "not everything that was accepted arrived", seconds=90)


def assert_no_copies(mail: list[bytes], handed_on: int) -> None:
    """No message was accepted twice, and at most so many were handed on twice, each in one copy with the same queue id.

    Between the next hop's answer to the end of data and the note of it in the queue file lies a moment; a sender that
    dies in it has to try again (RFC 5321 section 4.2.5, RFC 1047). The same holds for a Maildir.
    """
    queue_ids = defaultdict(list)
    for one in mail:
        (received,) = [field for field in parse(one).get_all("Received") if "by mail.foxtrot.example" in field]
        queue_ids[parse(one)["Subject"]].append(received.split(" id ")[1].split()[0])
    assert all(len(set(ids)) == 1 for ids in queue_ids.values())
    assert max(map(len, queue_ids.values())) <= 2
    assert len(mail) - len(queue_ids) <= handed_on


def handed_on_at_once(site: Site) -> int:
    """How many deliveries to one destination run at the same time (postconf(5))."""
    return int(site.run("postfix", "postconf", "-h", "default_destination_concurrency_limit"))


def _queue_ids(site: Site, recipient: str) -> list[str]:
    """The queue ids of what waits for a recipient."""
    waiting = map(json.loads, site.run("postfix", "postqueue", "-j").splitlines())
    return [one["queue_id"] for one in waiting if recipient in {to["address"] for to in one["recipients"]}]


@pytest.mark.parametrize("service", SUPERVISED)
def test_worker_killed_under_a_stream(service: str, outsider: Machine, backup_mx: Machine, foxtrot: Site) -> None:
    """While a worker is killed again and again nobody is refused for good, and all arrives once, judged once.

    Without policyd-spf's worker nobody notices. A message that dmarc's worker has in hand has to be sent again.
    """
    wait_healthy(foxtrot)
    with (
        Stream(outsider, foxtrot, "someone@listed.example", "user@foxtrot.example", 25) as one,
        Stream(backup_mx, foxtrot, "someone@softfail.example", "user@foxtrot.example", 25) as another,
    ):
        for _ in range(5):
            before = len(one.accepted), len(another.accepted)
            signal_worker(foxtrot, service, "SIGKILL")
            wait_for(
                lambda before=before: len(one.accepted) > before[0] + 2 and len(another.accepted) > before[1] + 2,
                "mail does not flow",
            )
    refused = one.refused + another.refused
    assert refused == [] if service == "policyd-spf" else all(400 <= code < 500 for code in refused)
    wanted = [*one.accepted, *another.accepted]

    def arrived() -> list[bytes] | None:
        found = [one for one in foxtrot.mail("user@foxtrot.example") if subject_of(one) in wanted]
        return found if len(found) >= len(wanted) else None

    mail = wait_for(arrived, "not everything that was accepted arrived")
    assert sorted(subject_of(one) for one in mail) == sorted(wanted)
    assert {received_spf(one).split()[0] for one in mail} == {"Pass", "Softfail"}
    assert {spf_result(one, foxtrot).result for one in mail} == {"pass", "softfail"}
    assert sum("worker was killed by signal 9 (SIGKILL)" in line for line in foxtrot.log(service)) >= 5


@pytest.mark.parametrize("service", ["dmarc", "policyd-spf"])
def test_restarted_under_a_stream(
    service: str, world: Internet, outsider: Machine, insider: Machine, foxtrot: Site, bravo: Site
) -> None:
    """Restarted under a stream in both directions, what one of our judges had in hand is finished or asked for again."""
    wait_healthy(foxtrot)
    with (
        Stream(insider, foxtrot, "user@foxtrot.example", "user@bravo.example", 587) as outbound,
        Stream(outsider, foxtrot, "someone@listed.example", "user@foxtrot.example", 25) as inbound,
    ):
        wait_for(lambda: len(outbound.accepted) > 3 and len(inbound.accepted) > 3, "mail does not flow")
        foxtrot.compose("restart", service)
        wait_healthy(foxtrot)
        sent, got = len(outbound.accepted), len(inbound.accepted)
        wait_for(
            lambda: len(outbound.accepted) > sent + 3 and len(inbound.accepted) > got + 3, "mail does not flow again"
        )
    assert all(400 <= code < 500 for code in outbound.refused + inbound.refused)
    for stream, target in ((outbound, bravo), (inbound, foxtrot)):
        mail = all_of(stream, target)
        assert sorted(subject_of(one) for one in mail) == sorted(stream.accepted)
        results = ["pass", "pass", "pass"] if target is bravo else ["pass", "none", "none"]
        for one in mail:
            assert [found.result for found in own_results(one, target)] == results
            assert internal_id(foxtrot) not in one


def test_all_killed_at_once(
    world: Internet, insider: Machine, foxtrot: Site, bravo: Site, engine_client: docker.DockerClient
) -> None:
    """All at once, with sockets and pid files left behind: healthy within 30 seconds, and mail flows."""
    wait_healthy(foxtrot)
    for service in SERVICE_NAMES:
        kill_nine(foxtrot, service, engine_client, world.image)
    wait_healthy(foxtrot)
    about = subject("after the crash")
    content = message("user@foxtrot.example", "user@bravo.example", about)
    reply = send(insider, address_of(foxtrot), "user@foxtrot.example", "user@bravo.example", content, port=587)
    assert reply.code == 250
    assert_once_and_signed(delivered(bravo, "user@bravo.example", about), bravo, "user@bravo.example", world)


@pytest.mark.parametrize("service", SERVICE_NAMES)
def test_order_of_start(service: str, world: Internet, insider: Machine, foxtrot: Site, bravo: Site) -> None:
    """A service started last and first, on empty volumes and on used ones: healthy and in order each time."""
    others = [one for one in SERVICE_NAMES if one != service]
    last, first = (others, [service]), ([service], others)
    for on_empty, on_used in ((last, first), (first, last)):
        foxtrot.down()
        for groups in (on_empty, on_used):
            foxtrot.remove_containers()
            for group in groups:
                foxtrot.compose("up", "--detach", "--no-deps", *group)
            wait_healthy(foxtrot)
            about = subject(f"started {service}")
            content = message("user@foxtrot.example", "user@bravo.example", about)
            sender, recipient = "user@foxtrot.example", "user@bravo.example"
            assert send(insider, address_of(foxtrot), sender, recipient, content, port=587).code == 250
            assert_once_and_signed(delivered(bravo, recipient, about), bravo, recipient, world)


def test_stop_is_clean(foxtrot: Site) -> None:
    """Every service ends by itself on "docker compose stop", within its grace period."""
    wait_healthy(foxtrot)
    foxtrot.compose("stop")
    states = foxtrot.states()
    foxtrot.compose("start")
    wait_healthy(foxtrot)
    assert {service: state[::2] for service, state in states.items()} == dict.fromkeys(SERVICE_NAMES, ("exited", 0))
