"""mailstack_auth.spf.policy: who is judged, and what is done about each result."""

import asyncio
import json
import re
import time

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from mailstack.render.compose import COMPOSE, site
from mailstack.render.site import files
from mailstack_auth.spf import policy_protocol, sender_domain
from mailstack_auth.spf.evaluation import RELAY_SECONDS, RESULTS, Evaluation, Evaluator, Result
from mailstack_auth.spf.judgement import Judgement
from mailstack_auth.spf.policy import Message, Policy, RequestError, refusal
from mailstack_auth.spf.query import MAX_SECONDS
from mailstack_auth.spf.service import GRACE_SECONDS
from unit.auth.test_received_spf import ANYTHING
from unit.dns_server import Server
from unit.sites import stack

DATA = {
    "hostname": "mail.example.com",
    "actions": {"fail": "reject-early"},
    "trusted_networks": ["127.0.0.0/8", "192.0.2.64/26"],
    "skip_networks": ["192.0.2.53/32", "2001:db8:53::/48"],
    "skip_domains": ["relay.example", "silent.example"],
    "domains": ["ours.example"],
    "judged_late": True,
    "hours": 4,
    "unknown_sender_domain": "defer",
}
POLICY = Policy.from_json(DATA)
ZONE = {
    "fail.example": [{"TXT": "v=spf1 ip4:192.0.2.3 -all"}],
    "relay.example": [{"TXT": "v=spf1 a:host.relay.example ip6:2001:db8:54::/48 -all"}],
    "host.relay.example": [{"A": "192.0.2.54"}],
    "silent.example": ["TIMEOUT"],
}


def message(client, *, user="", sender="a@fail.example"):
    request = {"client_address": client, "helo_name": "mail.example.org", "sender": sender, "sasl_username": user}
    return Message.of(request)


def judge(policy, one, server):
    async def run():
        async with server.evaluator(seconds=0.3) as evaluator:
            judgement = policy.known(one, evaluator) or await policy.judge(one, evaluator)
            return judgement, str(policy.action(judgement, one))

    return asyncio.run(run())


EXEMPT = {
    "trusted": (message("192.0.2.65"), "trusted", "DUNNO"),
    "loopback": (message("127.0.0.1"), "trusted", "DUNNO"),
    "trusted, as IPv6 shows it": (message("::ffff:192.0.2.65"), "trusted", "DUNNO"),
    "authenticated": (message("192.0.2.1", user="user@example.com"), "authenticated", "DUNNO"),
    "forwarder by network": (
        message("192.0.2.53"),
        "forwarder",
        "PREPEND X-SPF-Skipped: mail.example.com does not check SPF of mail from the forwarder 192.0.2.53",
    ),
    "forwarder by network, IPv6": (
        message("2001:DB8:53::1"),
        "forwarder",
        "PREPEND X-SPF-Skipped: mail.example.com does not check SPF of mail from the forwarder 2001:db8:53::1",
    ),
}


@pytest.mark.parametrize(("one", "exempt", "action"), EXEMPT.values(), ids=EXEMPT.keys())
def test_exempt(one, exempt, action):
    """Trusted and authenticated clients and relays are not judged, even if Postfix asks, and DNS is not asked."""
    server = Server.of(ZONE)
    assert judge(POLICY, one, server) == (Judgement(exempt=exempt), action)
    assert server.asked == []


@pytest.mark.parametrize("client", ["192.0.2.54", "2001:db8:54::1"])
def test_relay_by_domain(client):
    """A client that a listed domain's record names is not judged; whatever it sends, it gets no result."""
    judgement, action = judge(POLICY, message(client), Server.of(ZONE))
    assert judgement == Judgement(exempt="forwarder")
    assert action == f"PREPEND X-SPF-Skipped: mail.example.com does not check SPF of mail from the forwarder {client}"


def test_relay_by_domain_is_not_asked_about_what_passes():
    """Mail that passes costs no look-ups for the relays' domains."""
    server = Server.of(ZONE)
    judgement, action = judge(POLICY, message("192.0.2.3"), server)
    assert judgement.evaluation.judged.result == "pass"
    assert action.startswith("PREPEND Received-SPF: Pass (mailfrom) ")
    assert not [one for one in server.asked if "relay.example" in one or "silent.example" in one]


def test_a_relay_that_cannot_be_known_is_not_refused():
    """While the record of a listed domain cannot be looked up, nobody is refused for good, for it might be the relay."""
    _, action = judge(POLICY, message("192.0.2.1"), Server.of(ZONE))
    assert action.startswith("DEFER_IF_PERMIT 4.7.24 ")
    known = Policy.from_json(DATA | {"skip_domains": ["relay.example"]})
    _, action = judge(known, message("192.0.2.1"), Server.of(ZONE))
    assert action == "550 5.7.23 SPF fail: 192.0.2.1 is not authorized to send for MAIL FROM fail.example"


def test_a_known_fail_may_be_a_relays():
    """What passes is known without DNS, what does not only where no domain is listed whose record might name it."""
    plain = Policy.from_json(DATA | {"skip_domains": []})

    async def run(one):
        async with Server.of(ZONE).evaluator(seconds=0.3) as evaluator:
            before = [policy.known(one, evaluator) for policy in (POLICY, plain)]
            judged = await plain.judge(one, evaluator)
            return before, judged, [policy.known(one, evaluator) for policy in (POLICY, plain)]

    before, judged, known = asyncio.run(run(message("192.0.2.1")))
    assert (before, judged.evaluation.judged.result, known) == ([None, None], "fail", [None, judged])
    before, judged, known = asyncio.run(run(message("192.0.2.3")))
    assert (before, judged.evaluation.judged.result, known) == ([None, None], "pass", [judged, judged])


def test_relays_and_evaluation_together_are_bounded():
    """If neither the sender's DNS nor any relay's answers, both limits end it; and Postfix and a stop wait longer."""
    names = [f"{at}.silent.example" for at in range(20)]
    policy = Policy.from_json(DATA | {"skip_domains": names})
    server = Server.of({name: ["TIMEOUT"] for name in ("silent.example", *names)})

    async def run():
        async with server.lookups() as lookups:
            start = time.monotonic()
            judgement = await policy.judge(
                message("192.0.2.1", sender="a@silent.example"), Evaluator(lookups, 1.0, 0.3)
            )
            return judgement, time.monotonic() - start

    judgement, seconds = asyncio.run(run())
    assert (judgement.evaluation.judged.result, judgement.doubtful) == ("temperror", True)
    assert 1.2 < seconds < 1.8
    chosen = stack()
    main = files(chosen)["postfix"]["etc/postfix/main.cf"].content.decode()
    (timeout,) = re.findall(r"^smtpd_policy_service_timeout = (\d+)s$", main, re.MULTILINE)
    service = yaml.safe_load(site(chosen)[COMPOSE].content)["services"]["policyd-spf"]
    grace = service["stop_grace_period"].removesuffix("s")
    total = MAX_SECONDS + RELAY_SECONDS + sender_domain.MAX_SECONDS
    assert total < GRACE_SECONDS < int(grace)
    assert total <= int(timeout) / 2


@pytest.mark.parametrize("client", ["", "unknown", "192.0.2.256", "é", "\udcff"])
def test_no_client(client):
    """Without a client address there is nothing to judge."""
    with pytest.raises(RequestError):
        message(client)


@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize("chosen", ["tag", "reject-early", "defer"])
def test_action_of_every_result(result, chosen):
    """The action that the site chose for a result holds for it, and for no other."""
    policy = Policy("mail.example.com", {result: chosen})
    for other in RESULTS:
        evaluation = Evaluation(Result("helo", "a.example", "none", ""), Result("mailfrom", "b.example", other, "why"))
        action = str(policy.action(Judgement(evaluation), message("192.0.2.1")))
        tagged = other != result or chosen == "tag"
        assert action.startswith(f"PREPEND Received-SPF: {other.capitalize()} (mailfrom)") == tagged


REFUSALS = {
    "fail": "550 5.7.23 ",
    "softfail": "550 5.7.23 ",
    "permerror": "550 5.7.24 ",
    "temperror": "DEFER_IF_PERMIT 4.7.24 ",
}


@given(ANYTHING, ANYTHING, st.booleans())
@example("EXAMPLE.org", "SPF Permanent Error: Unknown mechanism found: x:y", False)
@example("example.org\n", "\n", False)
@example("a.example may send 250 OK", "é" * 1000, False)
@example("a" * 254, "a" * 1000, True)
def test_refusal_is_a_status_and_a_line(domain, reason, doubtful):
    """A refusal has the code of RFC 7372, fits a reply line (RFC 5321), and names a domain only if it looks like one."""
    for result, start in REFUSALS.items():
        text = str(refusal(Result("mailfrom", domain, result, reason), "2001:db8::25", doubtful=doubtful).action)
        assert policy_protocol.reply(text)
        assert text.startswith("DEFER_IF_PERMIT 4.7.24 " if doubtful else start)
        assert len(text) <= 510
        named = re.fullmatch(r"[A-Za-z0-9._-]{1,253}", domain) is not None
        assert f" {domain.lower()}" in text if named else "the sender's domain" in text


def test_refusal_says_what_is_broken():
    """The postmaster reads in the reply what is wrong with the record."""
    judged = Result("helo", "a.example", "permerror", "SPF Permanent Error: Too many DNS lookups")
    assert (
        str(refusal(judged, "192.0.2.1").action)
        == "550 5.7.24 SPF permerror for HELO a.example: invalid record: Too many DNS lookups"
    )


def test_policy_is_the_sites():
    """What the builder writes for the service is what the service reads."""
    chosen = stack(
        spf_fail="reject-early",
        spf_temperror="tag",
        spf_skip_networks="192.0.2.53,2001:db8::/32",
        spf_skip_domains="Relay.example,forwarder.example",
        trusted_networks="192.0.2.64/26",
    )
    policy = Policy.from_json(json.loads(files(chosen)["policyd-spf"]["etc/policyd-spf/policy.json"].content))
    assert policy.hostname == "mail.example.com"
    assert policy.actions == {"fail": "reject-early", "softfail": "tag", "permerror": "tag", "temperror": "tag"}
    assert [str(one) for one in policy.trusted_networks] == ["127.0.0.0/8", "::1/128", "192.0.2.64/26"]
    assert [str(one) for one in policy.skip_networks] == ["192.0.2.53/32", "2001:db8::/32"]
    assert policy.skip_domains == ("relay.example", "forwarder.example")
    assert (policy.domains, policy.judged_late) == ({"example.com", "mail.example.com"}, True)


def test_reject_is_the_milters_business():
    """SPF_FAIL=reject is decided after DKIM is known; at RCPT the message is only given its result."""
    for changes in ({"spf_fail": "reject"}, {"spf_fail": "tag"}):
        written = files(stack(**changes))["policyd-spf"]["etc/policyd-spf/policy.json"].content
        assert Policy.from_json(json.loads(written)).actions["fail"] == "tag"
    for mode in ("envelope", "off"):
        written = files(stack(local_sender=mode))["policyd-spf"]["etc/policyd-spf/policy.json"].content
        assert not Policy.from_json(json.loads(written)).judged_late


@pytest.mark.parametrize("domain", ["ours.example", "sub.OURS.example"])
@pytest.mark.parametrize("result", ["fail", "temperror"])
def test_own_domains_are_judged_late(domain, result):
    """A fail of a domain of ours is no refusal at RCPT, where a pass by DKIM is not known; no answer still waits."""
    policy = Policy.from_json(DATA | {"actions": {"fail": "reject-early", "temperror": "defer"}})
    judgement = Judgement(Evaluation(None, Result("mailfrom", domain, result, "")))
    action = policy.action(judgement, Message.of({"client_address": "192.0.2.1", "sender": f"a@{domain}"}))
    assert action.verb == ("PREPEND" if result == "fail" else "DEFER_IF_PERMIT")


@pytest.mark.parametrize("domain", ["ours.example", "mail.ours.example"])
def test_our_name_in_helo_is_nobody_elses(domain):
    """A stranger that says HELO with a name of ours is refused by its record, as one is that uses anybody's."""
    policy = Policy.from_json(DATA | {"actions": {"fail": "reject-early"}})
    judgement = Judgement(Evaluation(Result("helo", domain, "fail", ""), None))
    action = policy.action(judgement, Message.of({"client_address": "192.0.2.1", "helo_name": domain}))
    assert str(action) == f"550 5.7.23 SPF fail: 192.0.2.1 is not authorized to send for HELO {domain}"


def test_waiting_for_dns_has_an_end():
    """What would be deferred is tagged then; what is refused stays refused, and nobody asks how long it waited."""
    policy = Policy.from_json(DATA | {"actions": {"fail": "reject-early", "temperror": "defer"}})
    one = message("192.0.2.1")
    unknown = Judgement(Evaluation(None, Result("mailfrom", "a.example", "temperror", "DNS")))
    assert policy.action(unknown, one, waited=lambda: False)[:] == (
        "DEFER_IF_PERMIT",
        "4.7.24 DNS lookup of the SPF record of MAIL FROM a.example failed, please retry",
    )
    assert str(policy.action(unknown, one, waited=lambda: True)).startswith("PREPEND Received-SPF: Temperror ")
    failed = Evaluation(None, Result("mailfrom", "fail.example", "fail", ""))
    assert policy.action(Judgement(failed, doubtful=True), one, waited=lambda: True).verb == "PREPEND"
    assert str(policy.action(Judgement(failed), one, waited=pytest.fail)).startswith("550 5.7.23 ")
