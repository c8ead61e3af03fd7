"""What happened to a message stands in the containers' logs: once, with the queue id, whatever became of it."""

import json
import re
import time

import docker
import pytest

from mailstack.engine import status
from mailstack.world.containers import Machine, wait_for
from mailstack.world.site import Site
from support import address_of, message, one_more, send, subject

# An id that Postfix gives with enable_long_queue_ids (postconf(5)).
QUEUE_ID = r"[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{10,}"


def log(client: docker.DockerClient, site: Site, service: str) -> list[str]:
    """What "docker logs" shows of a service."""
    return client.containers.get(site.container(service)).logs().decode(errors="replace").splitlines()


def lines_with(client: docker.DockerClient, site: Site, service: str, word: str) -> list[str]:
    """Wait for lines with a word."""
    return wait_for(
        lambda: [line for line in log(client, site, service) if word in line], f"{service} says nothing of {word}"
    )


def queue_id_of(client: docker.DockerClient, site: Site, event: str, word: str) -> str:
    """The queue id in the one line about an event with a word."""
    (line,) = [line for line in lines_with(client, site, "postfix", word) if event in line]
    found = re.search(rf"postfix/(?:submission/)?smtpd\[\d+\]: ({QUEUE_ID}): {event}", line)
    assert found, line
    return found[1]


OUTCOMES = {
    "relaying refused": ("someone@listed.example", "x{}@listed.example", (554, "5.7.1"), "reject: RCPT"),
    "no such mailbox": ("someone@listed.example", "x{}@bravo.example", (550, "5.1.1"), "reject: RCPT"),
}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_refused_at_rcpt(outcome: str, outsider: Machine, bravo: Site, engine_client: docker.DockerClient) -> None:
    """One line says it, with queue id, client, sender and recipient; nobody else was asked."""
    sender, recipient, reply, event = OUTCOMES[outcome]
    mark = re.sub(r"\W", "", subject("x"))
    sender, recipient = sender.format(mark), recipient.format(mark)
    content = message(sender, recipient, subject(outcome))
    answer = send(outsider, address_of(bravo), sender, recipient, content)
    assert (answer.code, answer.text.split()[0]) == reply
    queue_id = queue_id_of(engine_client, bravo, event, f"x{mark}@")
    (line,) = [one for one in log(engine_client, bravo, "postfix") if queue_id in one and event in one]
    for word in (f"[{outsider.address}]", f"from=<{sender}>", f"to=<{recipient}>"):
        assert word in line
    one_more(bravo, "user@bravo.example", outsider)
    for service in ("policyd-spf", "opendkim", "dmarc"):
        assert not any(queue_id in one for one in log(engine_client, bravo, service))


def test_refused_by_spf(outsider: Machine, charlie: Site, engine_client: docker.DockerClient) -> None:
    """Postfix and policyd-spf say it, each once and under the same queue id."""
    mark = re.sub(r"\W", "", subject("x"))
    sender, recipient = f"x{mark}@fail.example", "user@charlie.example"
    content = message(sender, recipient, subject("SPF"))
    assert send(outsider, address_of(charlie), sender, recipient, content).code == 550
    queue_id = queue_id_of(engine_client, charlie, "reject: RCPT", sender)
    (line,) = lines_with(engine_client, charlie, "policyd-spf", queue_id)
    assert "fail" in line.lower()
    assert str(outsider.address) in line


JUDGED = {
    "discarded": ("x{}@bravo.example", (250, "2.0.0"), "milter-discard: END-OF-MESSAGE", "discard"),
    "refused": ("x{}@fail.example", (550, "5.7.23"), "milter-reject: END-OF-MESSAGE", "reject"),
}


@pytest.mark.parametrize("outcome", JUDGED)
def test_judged_after_data(outcome: str, outsider: Machine, bravo: Site, engine_client: docker.DockerClient) -> None:
    """Postfix, policyd-spf and dmarc say it, each once and under the same queue id."""
    sender, expected, event, action = JUDGED[outcome]
    mark = re.sub(r"\W", "", subject("x"))
    sender, recipient = sender.format(mark), "user@bravo.example"
    content = message("someone@listed.example", recipient, subject(outcome))
    reply = send(outsider, address_of(bravo), sender, recipient, content)
    assert (reply.code, reply.text.split()[0]) == expected
    (line,) = lines_with(engine_client, bravo, "dmarc", sender)
    found = json.loads(line)
    assert (found["action"], found["source_ip"]) == (action, str(outsider.address))
    queue_id = found["queue_id"]
    (line,) = [one for one in lines_with(engine_client, bravo, "postfix", queue_id) if event in one]
    for word in (f"[{outsider.address}]", f"from=<{sender}>", f"to=<{recipient}>"):
        assert word in line
    (line,) = lines_with(engine_client, bravo, "policyd-spf", queue_id)
    assert "result=fail action=PREPEND" in line


def test_what_is_not_signed(insider: Machine, bravo: Site, engine_client: docker.DockerClient) -> None:
    """Mail of a trusted client that dmarc keeps from being signed is refused, in one line of dmarc and of Postfix."""
    content = message("user@bravo.example", "x@listed.example", subject("two authors"), extra=["From: y@bravo.example"])
    reply = send(insider, address_of(bravo), "user@bravo.example", "x@listed.example", content, port=587)
    assert (reply.code, reply.text) == (550, "5.6.0 not signed: the message has more than one From field")
    (line,) = [one for one in lines_with(engine_client, bravo, "postfix", "milter-reject") if "5.6.0" in one]
    queue_id = line.split(": ")[1]
    (said,) = lines_with(engine_client, bravo, "dmarc", queue_id)
    assert said == f"dmarc: {queue_id}: action=reject reason='the message has more than one From field'"
    assert not any(queue_id in one for one in log(engine_client, bravo, "opendkim"))


def test_after_a_start_without_a_terminal(
    insider: Machine, foxtrot: Site, bravo: Site, engine_client: docker.DockerClient
) -> None:
    """A container that the engine itself starts again, as after a boot, logs as before: a signed message, once."""
    for service in ("postfix", "opendkim", "dmarc"):
        engine_client.containers.get(foxtrot.container(service)).restart()
    wait_for(foxtrot.healthy, "not every service became healthy")
    content = message("user@foxtrot.example", "user@bravo.example", subject("signed"))
    reply = send(insider, address_of(foxtrot), "user@foxtrot.example", "user@bravo.example", content, port=587)
    assert reply.code == 250
    queue_id = reply.text.rsplit(maxsplit=1)[-1]
    for service, event in (("postfix", "status=sent"), ("opendkim", "DKIM-Signature field added")):
        wait_for(
            lambda s=service, e=event: [x for x in log(engine_client, foxtrot, s) if queue_id in x and e in x], event
        )
        assert len([x for x in log(engine_client, foxtrot, service) if queue_id in x and event in x]) == 1


def test_counts(outsider: Machine, bravo: Site, charlie: Site, engine_client: docker.DockerClient) -> None:
    """Status says how many messages were dropped, put aside and refused, by which service and rule, and since when."""

    def counted(site: Site, service: str) -> dict[str, dict[str, int]]:
        found = status.counts(engine_client, site.stack.project).get(service, {})
        assert not found or found["since"] <= time.time()
        return dict(found.get("counts", {}))

    cases = [
        (bravo, "user@bravo.example", "someone@listed.example", "discard", "dmarc", "local sender"),
        (bravo, "someone@listed.example", "user@bravo.example", "quarantine", "dmarc", "local sender"),
        (bravo, "someone@none.example", "user@bravo.example", "reject", "dmarc", "local sender"),
        (charlie, "someone@fail.example", "someone@fail.example", "reject", "policyd-spf", "SPF"),
    ]
    for site, sender, author, action, service, rule in cases:
        before = counted(site, service).get(action, {}).get(rule, 0)
        mailbox = f"user@{site.stack.domains[0]}"
        send(outsider, address_of(site), sender, mailbox, message(author, mailbox, subject("counted")))

        def number(where: tuple[Site, str] = (site, service), what: tuple[str, str] = (action, rule)) -> int:
            return counted(*where).get(what[0], {}).get(what[1], 0)

        wait_for(lambda number=number, more=before: number() > more, f"{action} by {service} is not counted")
        if service == "dmarc":
            latest = site.status()["verdicts"][-1]
            assert (latest["sender"], f"; {action}: " in latest["verdict"]) == (sender, True)
