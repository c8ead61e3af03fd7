"""DNS gives no answer for a DKIM key or a DMARC record: genuine mail waits, is never refused, and arrives once."""

import time
from collections.abc import Iterator

import pytest

from integration import failing_dns
from integration.conftest import OUTSIDER
from integration.dmarc_mail import Domain, Keys, by, publish, sign, verdict_of
from integration.faults import Faults, failing_server
from mailstack.errors import EngineError
from mailstack.world.containers import Machine, wait_for
from mailstack.world.internet import Internet
from mailstack.world.site import Site, parse
from place import EDGE
from support import (
    Reply,
    address_of,
    count,
    delivered,
    dkim_results,
    dkim_sign,
    flush_until_delivered,
    message,
    properties,
    raw_results,
    results,
    send,
    subject,
    verdicts,
)

ADDRESS = EDGE[5]
KINDS = tuple(failing_dns.KINDS)
# Below a domain: where its keys are, and its record.
PLACES = ("_domainkey", "_dmarc")

HERE = f"v=spf1 ip4:{OUTSIDER} -all"
ELSEWHERE_ALONE = "v=spf1 ip4:192.0.2.1 -all"
DOMAINS = {
    # One for each fault: a resolver remembers failures for some seconds.
    **{f"{place[1:]}-{kind}.example": Domain("v=DMARC1; p=reject") for place in PLACES for kind in KINDS},
    **{f"vouched-{kind}.example": Domain("v=DMARC1; p=reject", spf=HERE) for kind in KINDS},
    "forged.example": Domain("v=DMARC1; p=reject"),
    "silent.example": Domain("v=DMARC1; p=reject"),
    "calm.example": Domain("v=DMARC1; p=none"),
    "alone.example": Domain("v=DMARC1; p=none", spf=ELSEWHERE_ALONE),
    "parent.example": Domain("v=DMARC1; p=reject"),
    "child.parent.example": Domain(),
    "steady.example": Domain("v=DMARC1; p=reject"),
    # Whose signature aligns by the tree alone.
    **{f"mail.dmarc-{kind}.example": Domain() for kind in KINDS},
}
# Names that have something. Unbound leaves out the proof that there is nothing, since it comes from the root zone, above
# the zone that it is told of.
CLOUDED = [
    *(f"_domainkey.{domain}" for domain in (*DOMAINS, "alpha.example")),
    *(f"_dmarc.{name}" for name, domain in DOMAINS.items() if domain.dmarc),
    "_dmarc.alpha.example",
]


@pytest.fixture(scope="module")
def name_server(world: Internet) -> Iterator[Machine]:
    with failing_server(world, "failing-ns", ADDRESS) as machine:
        yield machine


@pytest.fixture(scope="module")
def keys(world: Internet) -> Keys:
    """The keys of DOMAINS, which are published."""
    keys = Keys()
    publish(world.names, DOMAINS, keys, str(OUTSIDER))
    world.names.publish()
    return keys


@pytest.fixture(scope="module")
def clouded(name_server: Machine, foxtrot: Site, keys: Keys) -> Iterator[Site]:
    """Foxtrot, whose resolver asks the failing name server about keys and DMARC records."""
    override = foxtrot.directory / "overrides/resolver/unbound.conf"
    override.parent.mkdir(parents=True)
    # Zones of their own, as they could be: what a resolver learns of one says nothing about another.
    override.write_text(
        "".join(f'forward-zone:\n    name: "{name}"\n    forward-addr: {name_server.address}\n' for name in CLOUDED)
    )
    foxtrot.build(foxtrot.environment)
    foxtrot.up()
    yield foxtrot
    override.unlink()
    foxtrot.build(foxtrot.environment)
    foxtrot.up()


@pytest.fixture
def faults(name_server: Machine) -> Iterator[Faults]:
    faults = Faults(name_server)
    faults.clear()
    yield faults
    faults.clear()


class Sender:
    """Sends one message to foxtrot as often as it is told, as a queue would, and keeps the replies."""

    def __init__(self, machine: Machine, site: Site, sender: str, content: bytes) -> None:
        self._machine = machine
        self._site = site
        self._sender = sender
        self.content = content
        self.replies: list[Reply] = []

    def __call__(self) -> Reply:
        reply = send(self._machine, address_of(self._site), self._sender, "user@foxtrot.example", self.content)
        self.replies.append(reply)
        return reply

    def until_accepted(self) -> None:
        """Try until the message is taken; resolvers remember a failure for some seconds."""

        def accepted() -> bool:
            reply = self()
            if reply.code != 250:
                raise EngineError(f"{reply.code} {reply.text}")
            return True

        wait_for(accepted, "the message is not taken", seconds=60)


def assert_deferred(reply: Reply, what: str) -> None:
    assert (reply.code, reply.text) == (451, f"4.4.3 DNS lookup of {what} failed, please retry")


def assert_passed(content: bytes, site: Site, author: str, *dkim: str) -> None:
    """What is delivered says that it is genuine."""
    (found,) = dkim_results(content, site)
    assert found.result in (dkim or {"pass"}), raw_results(content)
    (header,) = results(content, site.stack.hostname)
    dmarc = header.results[-1]
    assert (dmarc.method, dmarc.result) == ("dmarc", "pass")
    assert properties(dmarc) == {"header.from": author, "policy.dmarc": "reject"}


def signed(author: str, about: str, keys: Keys, domain: str = "") -> bytes:
    content = message(f"someone@{author}", "user@foxtrot.example", about)
    return sign(by(domain or author), content, keys) + content


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", PLACES)
def test_mail_waits(place: str, kind: str, faults: Faults, keys: Keys, outsider: Machine, clouded: Site) -> None:
    """SPF can be looked up, and passes for another domain: all hangs on what gives no answer. 451 until it does."""
    author, about = f"{place[1:]}-{kind}.example", subject(f"{place}, {kind}")
    by_record = place == "_dmarc"
    content = signed(author, about, keys, f"mail.{author}" if by_record else author)
    try_once = Sender(outsider, clouded, "someone@listed.example", content)
    faults.set(kind, f"{place}.{author}")
    what = f"the DMARC record of {author}" if by_record else f"the DKIM key rsa._domainkey.{author}"
    for _ in range(2):
        assert_deferred(try_once(), what)
    assert count(clouded, "user@foxtrot.example", about) == 0

    faults.clear()
    try_once.until_accepted()
    assert {one.code for one in try_once.replies[:-1]} == {451}
    assert_passed(delivered(clouded, "user@foxtrot.example", about), clouded, author)
    assert count(clouded, "user@foxtrot.example", about) == 1
    wanted = parse(try_once.content)["Message-ID"]

    def on_record() -> list[tuple[str, str]]:
        return [(one["action"], one["result"]) for one in verdicts(clouded) if one["message_id"] == wanted]

    wait_for(lambda: ("accept", "pass") in on_record(), "nothing is accepted, by the log")
    *earlier, last = on_record()
    assert set(earlier) == {("defer", "temperror")}
    assert last == ("accept", "pass")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", PLACES)
def test_mail_of_a_stack_waits_in_its_queue(
    place: str,
    kind: str,
    faults: Faults,
    keys: Keys,
    outsider: Machine,
    insider: Machine,
    alpha_rejects: Site,
    clouded: Site,
) -> None:
    """The same from stack to stack: alpha's queue tries again by itself, nothing bounces, and it arrives once."""
    about, sender = subject(f"alpha, {place}, {kind}"), "someone@none.example"
    # A pass of the author's own domain would not wait for the record.
    author = "sub.alpha.example" if place == "_dmarc" else "alpha.example"
    content = message(f"user@{author}", "user@foxtrot.example", about)
    faults.set(kind, f"{place}.alpha.example")
    # What an earlier test looked up is remembered for a second or two: a forgery is refused until it is forgotten.
    forged = message(f"user@{author}", "user@foxtrot.example", subject("forged"))
    forged = dkim_sign(forged, "alpha.example", alpha_rejects.stack.keys.signers[0].selector, keys.pem)
    forge = Sender(outsider, clouded, sender, forged)
    wait_for(lambda: forge().code == 451, "the forgery is judged")
    reply = send(insider, address_of(alpha_rejects), sender, "user@foxtrot.example", content, port=587)
    assert reply.code == 250
    queue_id = reply.text.rsplit(maxsplit=1)[-1]

    def tries() -> list[str]:
        return [one for one in alpha_rejects.log("postfix") if queue_id in one and "status=" in one]

    (first, *_) = wait_for(tries, "alpha did not try", seconds=90)
    assert "status=deferred" in first
    assert "451 4.4.3" in first
    assert count(clouded, "user@foxtrot.example", about) == 0

    faults.clear()
    arrived = flush_until_delivered(alpha_rejects, clouded, "user@foxtrot.example", about)
    assert_passed(arrived, clouded, author)
    assert count(clouded, "user@foxtrot.example", about) == 1
    assert all("status=deferred" in one or "status=sent" in one for one in tries())


@pytest.mark.parametrize("kind", KINDS)
def test_spf_that_passes_needs_no_key(kind: str, faults: Faults, keys: Keys, outsider: Machine, clouded: Site) -> None:
    """Where SPF vouches for the author, nothing waits for a key; its result says that it was not verified."""
    author, about = f"vouched-{kind}.example", subject(f"vouched, {kind}")
    faults.set(kind, f"_domainkey.{author}")
    content = signed(author, about, keys)
    assert Sender(outsider, clouded, f"someone@{author}", content)().code == 250
    arrived = delivered(clouded, "user@foxtrot.example", about)
    # OpenDKIM takes some failures for a key that does not exist.
    assert_passed(arrived, clouded, author, "neutral", "permerror")


def test_none_waits_for_nothing(faults: Faults, keys: Keys, outsider: Machine, clouded: Site) -> None:
    """Under p=none no message waits, since none is refused; the result says that there was no answer."""
    about = subject("p=none")
    faults.set("servfail", "_domainkey.calm.example")
    content = signed("calm.example", about, keys)
    assert Sender(outsider, clouded, "someone@listed.example", content)().code == 250
    (header,) = results(delivered(clouded, "user@foxtrot.example", about), clouded.stack.hostname)
    assert [(one.method, one.result) for one in header.results] == [
        ("spf", "pass"),
        ("dkim", "temperror"),
        ("dmarc", "temperror"),
    ]


def test_spf_fail_waits_for_what_could_save_it(faults: Faults, keys: Keys, outsider: Machine, clouded: Site) -> None:
    """Under p=none SPF's fail would refuse the message, and an aligned signature would save it: 451."""
    about = subject("SPF fail")
    try_once = Sender(outsider, clouded, "someone@alone.example", signed("alone.example", about, keys))
    faults.set("servfail", "_domainkey.alone.example")
    assert_deferred(try_once(), "the DKIM key rsa._domainkey.alone.example")
    faults.clear()
    try_once.until_accepted()
    assert {one.code for one in try_once.replies[:-1]} == {451}
    arrived = delivered(clouded, "user@foxtrot.example", about)
    assert [one.result for one in dkim_results(arrived, clouded)] == ["pass"]
    assert count(clouded, "user@foxtrot.example", about) == 1


def test_the_record_of_a_parent(faults: Faults, keys: Keys, outsider: Machine, clouded: Site) -> None:
    """A sub-domain has no record, and its parent's gives no answer: 451."""
    about = subject("parent")
    try_once = Sender(
        outsider, clouded, "someone@listed.example", signed("child.parent.example", about, keys, "parent.example")
    )
    faults.set("servfail", "_dmarc.parent.example")
    assert_deferred(try_once(), "the DMARC record of child.parent.example")
    faults.clear()
    try_once.until_accepted()
    assert_passed(delivered(clouded, "user@foxtrot.example", about), clouded, "child.parent.example")
    assert count(clouded, "user@foxtrot.example", about) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["spf", "dkim", "dkim, beside a silent one"])
def test_what_decides_waits_for_nothing(
    way: str, kind: str, faults: Faults, keys: Keys, outsider: Machine, clouded: Site
) -> None:
    """SPF or DKIM passes for the author's own domain: delivered at once, whatever the record is, and whoever is silent."""
    author, about = f"vouched-{kind}.example", subject(f"decided, {way}, {kind}")
    faults.set(kind, f"_dmarc.{author}", "_domainkey.silent.example")
    content = message(f"someone@{author}", "user@foxtrot.example", about)
    if way != "spf":
        content = sign(by(author), content, keys) + content
    if "beside" in way:
        content = sign(by("silent.example"), content, keys) + content
    sender = author if way == "spf" else "none.example"
    started = time.monotonic()
    assert Sender(outsider, clouded, f"someone@{sender}", content)().code == 250
    seconds = time.monotonic() - started
    (header,) = results(delivered(clouded, "user@foxtrot.example", about), clouded.stack.hostname)
    assert (header.results[-1].method, header.results[-1].result) == ("dmarc", "pass")
    # OpenDKIM waits for a silent key, five seconds (opendkim.conf(5), DNSTimeout).
    assert seconds < (12 if "beside" in way else 6)


def test_forgeries_have_no_shelter(faults: Faults, keys: Keys, outsider: Machine, clouded: Site) -> None:
    """Without a signature there is nothing to wait for; a forged one is refused as soon as its key can be looked up."""
    faults.set("servfail", "_domainkey.forged.example")
    about = subject("forged")
    unsigned = message("someone@forged.example", "user@foxtrot.example", about)
    reply = Sender(outsider, clouded, "someone@none.example", unsigned)()
    assert (reply.code, reply.text.split()[0]) == (550, "5.7.26")

    forged = signed("forged.example", about, keys).replace(b"A body.", b"Another body.")
    try_once = Sender(outsider, clouded, "someone@none.example", forged)
    assert_deferred(try_once(), "the DKIM key rsa._domainkey.forged.example")
    faults.clear()
    wait_for(lambda: try_once().code != 451, "the key is not looked up", seconds=60)
    assert (try_once.replies[-1].code, try_once.replies[-1].text.split()[0]) == (550, "5.7.26")
    assert count(clouded, "user@foxtrot.example", about) == 0


def test_one_domain_is_not_another(faults: Faults, keys: Keys, outsider: Machine, clouded: Site) -> None:
    """While one domain's key gives no answer, mail of others passes, and a signature of the silent one is no matter."""
    faults.set("silence", "_domainkey.silent.example")
    silent = signed("silent.example", subject("silent"), keys)
    assert Sender(outsider, clouded, "someone@listed.example", silent)().code == 451
    about = subject("steady")
    content = message("someone@steady.example", "user@foxtrot.example", about)
    content = sign(by("silent.example"), content, keys) + sign(by("steady.example"), content, keys) + content
    assert Sender(outsider, clouded, "someone@listed.example", content)().code == 250
    (header,) = results(delivered(clouded, "user@foxtrot.example", about), clouded.stack.hostname)
    spf, silent_one, *others = [(one.method, one.result) for one in header.results]
    # OpenDKIM waits for the key, and says nothing; or it takes the failure, which the resolver remembers for some
    # seconds, for a missing key. dmarc may have seen that failure before the other signature passed.
    assert silent_one in {("dkim", one) for one in ("neutral", "temperror", "fail", "permerror")}
    assert [spf, *others] == [("spf", "pass"), ("dkim", "pass"), ("dmarc", "pass")]
    verdict = verdict_of(clouded, content)
    assert [one["result"] for one in verdict["auth_results"]["dkim"]] == [silent_one[1], "pass"]
