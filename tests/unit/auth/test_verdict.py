"""mailstack_auth.dmarc.verdict: what is done with a message, once SPF, DKIM and DMARC are known."""

import ipaddress
from dataclasses import replace

import pytest

from mailstack_auth.dkim.signatures import Signature
from mailstack_auth.dmarc.discovery import Published, parse
from mailstack_auth.dmarc.evidence import Evidence, TempFailure
from mailstack_auth.dmarc.verdict import Outcome, decide, given_up, leaving
from mailstack_auth.site import Site
from mailstack_auth.spf.evaluation import RESULTS, Evaluation, Result
from mailstack_auth.spf.judgement import Judgement

CLIENT = "192.0.2.1"
SITE = Site(
    "mail.ours.example",
    frozenset({"ours.example", "also.example"}),
    skip_networks=(ipaddress.ip_network("198.51.100.0/24"), ipaddress.ip_network("2001:db8:5::/48")),
    skip_domains=("list.example",),
)


def spf(result, domain, identity="mailfrom", **more):
    return Judgement(
        Evaluation(**{"helo": None, "mailfrom": None, identity: Result(identity, domain, result, "")}), **more
    )


def dkim(domain, result="pass", at=0):
    return Signature(at, domain, "s", "rsa-sha256", "AAAABBBB", result=result)


def published(record, domain="a.example"):
    found = parse(domain, f"v=DMARC1; {record}")
    return Published(found, found.p)


PLAIN = Evidence(CLIENT, "a.example", "a.example", spf("none", "a.example"), ())


def message(sender="a.example", author=None, **more):
    return PLAIN._replace(sender=sender, author=author or sender or "a.example", **more)


def outcome(evidence, site=SITE):
    """The action, and the first words of what goes with it."""
    found = decide(evidence, site)
    text = found.reply or found.reason
    assert text.isascii()
    assert text.isprintable()
    assert len(text) < 500
    assert (found.reply is not None) == (found.action in {"reject", "defer"})
    return (found.action, " ".join(text.split()[:2])) if text else (found.action,)


ACCEPT, DISCARD, DEFER = ("accept",), ("discard", "MAIL FROM"), ("defer", "451 4.4.3")
REFUSE_AUTHOR, JUNK_AUTHOR = ("reject", "550 5.7.1"), ("quarantine", "From uses")
JUNK, KEY_OF_OURS = ("quarantine", "MAIL FROM"), (TempFailure("the DKIM key x", "m.ours.example"),)
OUR_SPF, THEIR_SPF = spf("pass", "ours.example"), spf("pass", "a.example")
LOCAL = {
    # Nothing of ours.
    "no domain of ours": (message("a.example"), ACCEPT),
    "a name like ours": (message("notours.example"), ACCEPT),
    "ours as the beginning of a name": (message("ours.example.evil.example"), ACCEPT),
    # Forged.
    "envelope and author": (message("ours.example"), DISCARD),
    "envelope alone": (message("ours.example", "a.example"), DISCARD),
    "author alone": (message("a.example", "ours.example"), REFUSE_AUTHOR),
    "the other domain of ours": (message("also.example"), DISCARD),
    "sub-domain in the envelope": (message("news.ours.example", "a.example"), DISCARD),
    "sub-domain of the author": (message("a.example", "news.ours.example"), REFUSE_AUTHOR),
    "author, with the envelope's SPF pass": (message("a.example", "ours.example", spf=THEIR_SPF), JUNK_AUTHOR),
    "author, with somebody's signature": (
        message("a.example", "ours.example", signatures=(dkim("a.example"),)),
        JUNK_AUTHOR,
    ),
    "author, with a broken signature of ours": (
        message("a.example", "ours.example", signatures=(dkim("ours.example", "fail"),)),
        REFUSE_AUTHOR,
    ),
    "author, with a signature of ours that covers a part": (
        message("a.example", "ours.example", signatures=(dkim("ours.example", "policy"),)),
        REFUSE_AUTHOR,
    ),
    "author, with a signature of a name like ours": (
        message("a.example", "ours.example", signatures=(dkim("notours.example"),)),
        JUNK_AUTHOR,
    ),
    "author, with a signature without a domain": (
        message("a.example", "ours.example", signatures=(Signature(0, None, result="pass"),)),
        REFUSE_AUTHOR,
    ),
    "SPF fail": (message("ours.example", spf=spf("fail", "ours.example")), DISCARD),
    "SPF softfail": (message("ours.example", spf=spf("softfail", "ours.example")), DISCARD),
    "SPF permerror": (message("ours.example", spf=spf("permerror", "ours.example")), DISCARD),
    "ours, by another domain of ours": (
        message("ours.example", spf=spf("none", "ours.example"), signatures=(dkim("also.example"),)),
        JUNK,
    ),
    "envelope, with somebody's signature": (message("ours.example", signatures=(dkim("a.example"),)), JUNK),
    "envelope, with somebody's broken signature": (
        message("ours.example", signatures=(dkim("a.example", "fail"),)),
        DISCARD,
    ),
    "HELO pass is none of MAIL FROM": (
        message(
            "ours.example",
            spf=Judgement(
                Evaluation(Result("helo", "ours.example", "pass", ""), Result("mailfrom", "ours.example", "none", ""))
            ),
        ),
        DISCARD,
    ),
    # Authorised.
    "a service in our SPF": (message("ours.example", spf=OUR_SPF), ACCEPT),
    "a service in our SPF, bounces to a sub-domain": (
        message("bounce.ours.example", "ours.example", spf=spf("pass", "bounce.ours.example")),
        ACCEPT,
    ),
    "a service in our SPF, author in a sub-domain": (
        message("ours.example", "news.ours.example", spf=OUR_SPF),
        ACCEPT,
    ),
    "a service with a key of ours": (
        message("service.example", "ours.example", signatures=(dkim("ours.example"),)),
        ACCEPT,
    ),
    "a service with a key of a sub-domain": (
        message("service.example", "ours.example", signatures=(dkim("service.example"), dkim("m.ours.example", at=1))),
        ACCEPT,
    ),
    "our own mail, forwarded": (
        message("ours.example", spf=spf("fail", "ours.example"), signatures=(dkim("ours.example"),)),
        ACCEPT,
    ),
    "our own mail, forwarded with another sender": (
        message(
            "forwarder.example",
            "ours.example",
            spf=spf("pass", "forwarder.example"),
            signatures=(dkim("ours.example"),),
        ),
        ACCEPT,
    ),
    "our own mail, forwarded from another's domain": (
        message("ours.example", "a.example", signatures=(dkim("ours.example"),)),
        ACCEPT,
    ),
    # Bounces.
    "bounce": (message(None, "a.example", spf=spf("pass", "mx.a.example", "helo")), ACCEPT),
    "bounce that names an author of ours": (message(None, "ours.example"), REFUSE_AUTHOR),
    "bounce by a host of ours": (message(None, "ours.example", spf=spf("pass", "mx.ours.example", "helo")), ACCEPT),
    # In doubt.
    "forged, but DNS gives no answer": (message("ours.example", failures=KEY_OF_OURS), DEFER),
    "forged, somebody's pass, but DNS gives no answer": (
        message("ours.example", failures=KEY_OF_OURS, signatures=(dkim("a.example"),)),
        DEFER,
    ),
    "forged, somebody's pass, and no answer about others": (
        message(
            "ours.example", signatures=(dkim("a.example"),), failures=(TempFailure("the DKIM key x", "b.example"),)
        ),
        JUNK,
    ),
    "forged, and no answer about others": (
        message("ours.example", failures=(TempFailure("the DKIM key x", "b.example"),)),
        DEFER,
    ),
    "author forged, and no answer about a trusted list": (
        message(
            "a.example", "ours.example", spf=THEIR_SPF, failures=(TempFailure("the DKIM key x", "m.list.example"),)
        ),
        DEFER,
    ),
    "author forged, and no answer about the record alone": (
        message("a.example", "ours.example", spf=THEIR_SPF, failure=TempFailure("the DMARC record of ours.example")),
        JUNK_AUTHOR,
    ),
    "author forged, but DNS gives no answer": (
        message("a.example", "ours.example", failures=KEY_OF_OURS),
        DEFER,
    ),
    "SPF temperror of ours, without a DMARC record": (
        message(
            "ours.example", spf=spf("temperror", "ours.example"), failures=(TempFailure("SPF", "ours.example", "spf"),)
        ),
        DEFER,
    ),
    "SPF temperror of ours, another author": (
        message(
            "ours.example",
            "a.example",
            spf=spf("temperror", "ours.example"),
            failures=(TempFailure("SPF", "ours.example", "spf"),),
        ),
        DEFER,
    ),
    "SPF temperror of others": (
        message(
            "a.example",
            "ours.example",
            spf=spf("temperror", "a.example"),
            failures=(TempFailure("SPF", "a.example", "spf"),),
        ),
        DEFER,
    ),
    # A list or forwarder that the site trusts spares the author, not the envelope.
    "author, by a trusted network": (message("forwarder.example", "ours.example", client="198.51.100.7"), ACCEPT),
    "author, by a trusted list's SPF": (
        message("list.example", "ours.example", spf=spf("pass", "list.example")),
        ACCEPT,
    ),
    "author, by a trusted list's signature": (
        message("a.example", "ours.example", signatures=(dkim("m.list.example"),)),
        ACCEPT,
    ),
    "author, by a trusted list's name alone": (message("list.example", "ours.example"), REFUSE_AUTHOR),
    "envelope, by a trusted network": (message("ours.example", client="198.51.100.7"), DISCARD),
}


@pytest.mark.parametrize(("evidence", "expected"), LOCAL.values(), ids=LOCAL.keys())
def test_local_domains(evidence, expected):
    """Mail that uses a domain of ours, in the envelope or as author, is let in if SPF or DKIM shows that it may.

    It is dropped where the envelope uses it and nothing authenticates; where anything does, it is put aside.
    """
    assert outcome(evidence) == expected
    refused = ("reject", "550 5.7.1") if expected[0] == "discard" else expected
    assert outcome(evidence, replace(SITE, local_sender="reject")) == refused
    assert outcome(evidence, replace(SITE, local_sender=None, spf_temperror="tag")) == ACCEPT


def test_a_discard_says_what_it_was():
    """The reason names the domain, for the log line."""
    found = decide(message("ours.example", "a.example"), SITE)
    reason = "MAIL FROM uses our domain ours.example without an SPF or DKIM pass for it"
    assert found == Outcome("discard", reason=reason, rule="local sender")


MARK, OLD = replace(SITE, dmarc="mark"), replace(SITE, dmarc="reject")
REJECT, QUARANTINE = ("reject", "550 5.7.26"), ("quarantine", "DMARC policy")
LIST_SPF = spf("pass", "list.example")
# The record and what DMARC found; site; what is done, the disposition, and why it is less than published.
DMARC = {
    "no record": (message(), SITE, ACCEPT, "none", None),
    "pass, p=reject": (message(published=published("p=reject"), dmarc="pass"), SITE, ACCEPT, "none", None),
    "fail, p=none": (message(published=published("p=none"), dmarc="fail"), SITE, ACCEPT, "none", None),
    "fail, p=quarantine": (
        message(published=published("p=quarantine"), dmarc="fail"),
        SITE,
        QUARANTINE,
        "quarantine",
        None,
    ),
    "fail, p=reject": (message(published=published("p=reject"), dmarc="fail"), SITE, REJECT, "reject", None),
    "fail, p=reject, null sender": (
        message(None, published=published("p=reject"), dmarc="fail"),
        SITE,
        REJECT,
        "reject",
        None,
    ),
    "fail, p=reject, t=y": (
        message(published=published("p=reject; t=y"), dmarc="fail"),
        SITE,
        QUARANTINE,
        "quarantine",
        "policy_test_mode",
    ),
    "fail, p=quarantine, t=y": (
        message(published=published("p=quarantine; t=y"), dmarc="fail"),
        SITE,
        ACCEPT,
        "none",
        "policy_test_mode",
    ),
    "fail, p=none, t=y": (message(published=published("p=none; t=y"), dmarc="fail"), SITE, ACCEPT, "none", None),
    "marked, p=reject": (
        message(published=published("p=reject"), dmarc="fail"),
        MARK,
        ACCEPT,
        "none",
        "local_policy",
    ),
    "marked, p=quarantine": (
        message(published=published("p=quarantine"), dmarc="fail"),
        MARK,
        ACCEPT,
        "none",
        "local_policy",
    ),
    "marked, p=none": (message(published=published("p=none"), dmarc="fail"), MARK, ACCEPT, "none", None),
    "spared by network": (
        message(client="198.51.100.7", published=published("p=reject"), dmarc="fail"),
        SITE,
        ACCEPT,
        "none",
        "trusted_forwarder",
    ),
    "spared by network, IPv6": (
        message(client="2001:db8:5::1", published=published("p=reject"), dmarc="fail"),
        SITE,
        ACCEPT,
        "none",
        "trusted_forwarder",
    ),
    "spared by SPF": (
        message(spf=LIST_SPF, published=published("p=quarantine"), dmarc="fail"),
        SITE,
        ACCEPT,
        "none",
        "trusted_forwarder",
    ),
    "spared by DKIM": (
        message(signatures=(dkim("list.example"),), published=published("p=reject"), dmarc="fail"),
        SITE,
        ACCEPT,
        "none",
        "trusted_forwarder",
    ),
    "not spared by a failed signature": (
        message(signatures=(dkim("list.example", "fail"),), published=published("p=reject"), dmarc="fail"),
        SITE,
        REJECT,
        "reject",
        None,
    ),
    "not spared by an SPF fail": (
        message(spf=spf("softfail", "list.example"), published=published("p=reject"), dmarc="fail"),
        SITE,
        REJECT,
        "reject",
        None,
    ),
    "not spared by a name like a list's": (
        message(spf=spf("pass", "evil-list.example"), published=published("p=reject"), dmarc="fail"),
        OLD,
        REJECT,
        "reject",
        None,
    ),
    "handed on by SPF's pass": (
        message(spf=spf("pass", "b.example"), published=published("p=reject"), dmarc="fail"),
        SITE,
        QUARANTINE,
        "quarantine",
        "local_policy",
    ),
    "handed on by DKIM's pass": (
        message(signatures=(dkim("b.example"),), published=published("p=reject"), dmarc="fail"),
        SITE,
        QUARANTINE,
        "quarantine",
        "local_policy",
    ),
    "handed on, the old way": (
        message(signatures=(dkim("b.example"),), published=published("p=reject"), dmarc="fail"),
        OLD,
        REJECT,
        "reject",
        None,
    ),
    "handed on, t=y": (
        message(signatures=(dkim("b.example"),), published=published("p=reject; t=y"), dmarc="fail"),
        SITE,
        QUARANTINE,
        "quarantine",
        "policy_test_mode",
    ),
    "handed on, only marked": (
        message(signatures=(dkim("b.example"),), published=published("p=reject"), dmarc="fail"),
        MARK,
        ACCEPT,
        "none",
        "local_policy",
    ),
    "perhaps handed on": (
        message(published=published("p=reject"), dmarc="fail", failures=(TempFailure("the DKIM key x", "b.example"),)),
        SITE,
        DEFER,
        "reject",
        None,
    ),
    "perhaps handed on, the old way": (
        message(published=published("p=reject"), dmarc="fail", failures=(TempFailure("the DKIM key x", "b.example"),)),
        OLD,
        REJECT,
        "reject",
        None,
    ),
    "perhaps handed on, p=quarantine": (
        message(
            published=published("p=quarantine"), dmarc="fail", failures=(TempFailure("the DKIM key x", "b.example"),)
        ),
        SITE,
        QUARANTINE,
        "quarantine",
        None,
    ),
    "perhaps by a trusted list": (
        message(
            published=published("p=quarantine"), dmarc="fail", failures=(TempFailure("the DKIM key x", "list.example"),)
        ),
        SITE,
        DEFER,
        "quarantine",
        None,
    ),
    "a pass and a temperror of the record": (message(dmarc="pass"), SITE, ACCEPT, "none", None),
    "no author": (
        message(None)._replace(author=None, spf=spf("pass", "mx.a.example", "helo")),
        SITE,
        ACCEPT,
        "none",
        None,
    ),
    "not spared by a name alone": (
        message("list.example", "a.example", published=published("p=reject"), dmarc="fail"),
        SITE,
        REJECT,
        "reject",
        None,
    ),
    "spared, and only marked": (
        message(spf=LIST_SPF, published=published("p=reject"), dmarc="fail"),
        MARK,
        ACCEPT,
        "none",
        "trusted_forwarder",
    ),
    "spared, p=none": (
        message(spf=LIST_SPF, published=published("p=none"), dmarc="fail"),
        SITE,
        ACCEPT,
        "none",
        None,
    ),
    "permerror": (message(dmarc="permerror"), SITE, ACCEPT, "none", None),
    "temperror of the record": (
        message(dmarc="temperror", failure=TempFailure("the DMARC record of a.example")),
        SITE,
        DEFER,
        "none",
        None,
    ),
    "temperror of a key, p=reject": (
        message(published=published("p=reject"), dmarc="temperror", failure=TempFailure("the DKIM key x")),
        SITE,
        DEFER,
        "none",
        None,
    ),
    "temperror of a key, p=reject, t=y": (
        message(published=published("p=reject; t=y"), dmarc="temperror", failure=TempFailure("the DKIM key x")),
        SITE,
        DEFER,
        "none",
        None,
    ),
    "temperror of a key, p=none": (
        message(published=published("p=none"), dmarc="temperror", failure=TempFailure("the DKIM key x")),
        SITE,
        ACCEPT,
        "none",
        None,
    ),
    "temperror of a key, p=quarantine, t=y": (
        message(published=published("p=quarantine; t=y"), dmarc="temperror", failure=TempFailure("the DKIM key x")),
        SITE,
        ACCEPT,
        "none",
        None,
    ),
    "temperror, by a trusted network": (
        message(client="198.51.100.7", dmarc="temperror", failure=TempFailure("the DMARC record of a.example")),
        SITE,
        ACCEPT,
        "none",
        None,
    ),
    "temperror, by a trusted domain": (
        message(
            spf=LIST_SPF, published=published("p=reject"), dmarc="temperror", failure=TempFailure("the DKIM key x")
        ),
        SITE,
        ACCEPT,
        "none",
        None,
    ),
    "temperror, only marked": (
        message(published=published("p=reject"), dmarc="temperror", failure=TempFailure("the DKIM key x")),
        MARK,
        ACCEPT,
        "none",
        None,
    ),
}


@pytest.mark.parametrize(("evidence", "site", "expected", "disposition", "override"), DMARC.values(), ids=DMARC.keys())
def test_dmarc(evidence, site, expected, disposition, override):
    """The published policy is followed, or only marked; DNS that gives no answer defers, where it could matter."""
    assert outcome(evidence, site) == expected
    found = decide(evidence, site)
    assert (found.disposition, found.override) == (disposition, override)


def test_a_refusal_names_the_author_domain():
    """The reply has the code of RFC 7372, and says which domain asks for it."""
    found = decide(message("b.example", "a.example", published=published("p=reject"), dmarc="fail"), SITE)
    assert (
        found.reply
        == "550 5.7.26 DMARC: rejected by policy of a.example (neither SPF nor DKIM passes with an aligned domain)"
    )


FAIL, SPF_REJECT = spf("fail", "a.example"), ("reject", "550 5.7.23")
TAG = replace(SITE, spf_fail="tag")
SPF = {
    "fail": (message(spf=FAIL), SITE, SPF_REJECT),
    "fail, HELO's": (message(None, "a.example", spf=spf("fail", "mx.a.example", "helo")), SITE, SPF_REJECT),
    "fail, not to be refused": (message(spf=FAIL), TAG, ACCEPT),
    "fail, an aligned DKIM pass": (
        message(spf=FAIL, signatures=(dkim("a.example"),), dkim_aligned=True, dmarc="pass"),
        SITE,
        ACCEPT,
    ),
    "fail, an aligned DKIM pass without a DMARC record": (
        message(spf=FAIL, signatures=(dkim("a.example"),), dkim_aligned=True),
        SITE,
        ACCEPT,
    ),
    "fail, somebody's DKIM pass": (message(spf=FAIL, signatures=(dkim("b.example"),)), SITE, SPF_REJECT),
    "fail, p=none": (message(spf=FAIL, published=published("p=none"), dmarc="fail"), SITE, SPF_REJECT),
    "fail, p=quarantine": (message(spf=FAIL, published=published("p=quarantine"), dmarc="fail"), SITE, SPF_REJECT),
    "fail, p=reject: DMARC speaks first": (
        message(spf=FAIL, published=published("p=reject"), dmarc="fail"),
        SITE,
        REJECT,
    ),
    "fail, only marked by DMARC": (message(spf=FAIL, published=published("p=reject"), dmarc="fail"), MARK, SPF_REJECT),
    "fail, DNS in doubt": (message(spf=FAIL, failure=TempFailure("the DKIM key x", "a.example")), SITE, DEFER),
    "fail, DNS in doubt, p=none": (
        message(
            spf=FAIL,
            published=published("p=none"),
            dmarc="temperror",
            failure=TempFailure("the DKIM key x", "a.example"),
        ),
        SITE,
        DEFER,
    ),
    "fail, the client may be a trusted relay": (message(spf=spf("fail", "a.example", doubtful=True)), SITE, DEFER),
    "fail of ours, local senders not looked at": (
        message("ours.example", spf=spf("fail", "ours.example")),
        replace(SITE, local_sender=None),
        ACCEPT,
    ),
    "fail of our sub-domain, local senders not looked at": (
        message("m.ours.example", spf=spf("fail", "m.ours.example")),
        replace(SITE, local_sender=None),
        ACCEPT,
    ),
    "fail of ours in HELO": (
        message(None, "a.example", spf=spf("fail", "mail.ours.example", "helo")),
        SITE,
        SPF_REJECT,
    ),
    "fail of a name like ours": (message("notours.example", spf=spf("fail", "notours.example")), SITE, SPF_REJECT),
    "not judged": (message(spf=Judgement(exempt="trusted")), SITE, ACCEPT),
    "HELO fail counts where MAIL FROM has nothing": (
        message(
            spf=Judgement(
                Evaluation(Result("helo", "mx.a.example", "fail", ""), Result("mailfrom", "a.example", "none", ""))
            )
        ),
        SITE,
        SPF_REJECT,
    ),
}


@pytest.mark.parametrize(("evidence", "site", "expected"), SPF.values(), ids=SPF.keys())
def test_spf_fail(evidence, site, expected):
    """SPF's fail is refused, unless an aligned DKIM pass outweighs it; never for domains of ours."""
    assert outcome(evidence, site) == expected


def test_why_spf_refuses():
    """In words; the reply has code and status."""
    assert decide(message(spf=FAIL), SITE).reason.startswith("SPF fail: ")


@pytest.mark.parametrize("result", [one for one in RESULTS if one not in {"fail", "temperror"}])
def test_other_spf_results_are_no_reason(result):
    """They are policyd-spf's own business, or nobody's."""
    assert outcome(message(spf=spf(result, "a.example"))) == ACCEPT


def test_an_spf_record_that_is_not_known():
    """It could be a fail, which would be refused; not where DKIM outweighs a fail, or nobody refuses one."""
    unknown = message(spf=spf("temperror", "a.example"))
    assert outcome(unknown) == DEFER
    assert outcome(unknown._replace(dkim_aligned=True)) == ACCEPT
    for setting in ({"spf_temperror": "tag"}, {"spf_temperror": "defer-early"}, {"spf_fail": "tag"}):
        assert outcome(unknown, replace(SITE, **setting)) == ACCEPT


@pytest.mark.parametrize(
    "evidence", [message(spf=spf("temperror", "a.example")), message("ours.example", failures=KEY_OF_OURS)]
)
def test_waiting_for_dns_has_an_end(evidence):
    """Then the message is put aside, or refused for good; both say why."""
    found = decide(evidence, SITE)
    aside = given_up(found, replace(SITE, dns_hours=7))
    assert (aside.action, aside.reply) == ("quarantine", None)
    assert aside.reason == f"{found.reason} for 7 hours"
    refused = given_up(found, replace(SITE, dns_action="reject"))
    assert (refused.action, refused.reply) == ("reject", f"550 5.4.3 {found.reason} for 4 hours")


def test_local_domains_come_first():
    """A forged message of ours is discarded, whatever DMARC asks for; the disposition stays on record."""
    evidence = message("ours.example", published=published("p=reject", "ours.example"), dmarc="fail")
    found = decide(evidence, SITE)
    assert (found.action, found.disposition) == ("discard", "reject")


def test_what_others_refuse_is_not_put_aside():
    """A domain of ours in From, from who is somebody, is put aside; unless SPF or the old way of DMARC refuses it."""
    handed_on = message("a.example", "ours.example", signatures=(dkim("a.example"),), dmarc="fail")
    handed_on = handed_on._replace(published=published("p=reject", "ours.example"))
    assert outcome(handed_on) == JUNK_AUTHOR
    assert outcome(handed_on, OLD) == REJECT
    assert outcome(handed_on._replace(spf=FAIL)) == SPF_REJECT


NOT_FORWARDED, LOOK = ("reject", "550 5.7.1"), ("reject", "550 5.7.26")
BY_DMARC = {"published": published("p=quarantine"), "dmarc": "fail"}
LEAVING = {
    "nothing of ours": (message(), SITE, ACCEPT),
    "another's, quarantined": (message(**BY_DMARC), SITE, ("quarantine", "DMARC policy")),
    "author, put aside": (message("a.example", "ours.example", spf=THEIR_SPF), SITE, NOT_FORWARDED),
    "a sub-domain of ours": (message("a.example", "news.ours.example", spf=THEIR_SPF), SITE, NOT_FORWARDED),
    "another's envelope": (message("ours.example", "a.example", signatures=(dkim("a.example"),)), SITE, NOT_FORWARDED),
    "local senders are not looked at": (message("ours.example"), replace(SITE, local_sender=None), NOT_FORWARDED),
    "a forwarder that is trusted": (
        message("list.example", "ours.example", spf=spf("pass", "list.example")),
        SITE,
        NOT_FORWARDED,
    ),
    "null sender": (message(None, "ours.example", signatures=(dkim("a.example"),)), SITE, NOT_FORWARDED),
    "by our SPF": (message("ours.example", spf=OUR_SPF), SITE, ACCEPT),
    "by our signature": (message("a.example", "ours.example", signatures=(dkim("ours.example"),)), SITE, ACCEPT),
    "of our organization": (message(**BY_DMARC, akin=True), SITE, LOOK),
    "perhaps of our organization": (message(**BY_DMARC, akin=None), SITE, DEFER),
    "a list that is trusted, our key perhaps": (
        message("list.example", "ours.example", spf=spf("pass", "list.example"), failures=KEY_OF_OURS),
        SITE,
        DEFER,
    ),
    "local senders are not looked at, our SPF perhaps": (
        message("ours.example", failures=(TempFailure("the SPF record of ours.example", "ours.example", by="spf"),)),
        replace(SITE, local_sender=None),
        DEFER,
    ),
    "DMARC only marks, and its record is not known": (
        message(dmarc="temperror", failure=TempFailure("the DMARC record of a.example"), akin=True),
        replace(SITE, dmarc="mark"),
        DEFER,
    ),
    "refused anyway": (message("a.example", "ours.example"), SITE, REFUSE_AUTHOR),
    "discarded anyway": (message("ours.example"), SITE, DISCARD),
    "DNS first": (message("a.example", "ours.example", failures=KEY_OF_OURS), SITE, DEFER),
}


@pytest.mark.parametrize(("evidence", "site", "expected"), LEAVING.values(), ids=LEAVING.keys())
def test_leaving(evidence, site, expected):
    """What could pass DMARC at the next server by our host, and not by itself, is not forwarded; the rest is as ever."""
    decided = decide(evidence, site)
    assert leaving(decided, evidence, site) == decided
    evidence = evidence._replace(forwarded=True)
    found = leaving(decide(evidence, site), evidence, site)
    text = found.reply or found.reason
    assert ((found.action, " ".join(text.split()[:2])) if text else (found.action,)) == expected
    assert found.reason.endswith(", so it is not forwarded") == (found != decided and found.action == "reject")


@pytest.mark.parametrize(
    "evidence",
    [
        message("a.example", "ours.example", failures=KEY_OF_OURS),
        message(published=published("p=reject"), dmarc="temperror", failure=TempFailure("x"), akin=None),
    ],
    ids=["ours", "perhaps of our organization"],
)
def test_leaving_after_waiting(evidence):
    """Waiting makes nothing known: in place of being put aside the message is rejected."""
    evidence = evidence._replace(forwarded=True)
    waited = given_up(decide(evidence, SITE), SITE)
    assert waited.action == "quarantine"
    assert leaving(waited, evidence, SITE).action == "reject"


def test_a_sender_of_forwarded_mail_is_answered():
    """A bounce to an SRS address finds the original sender."""
    assert outcome(message("ours.example", "a.example", returned=True)) == REFUSE_AUTHOR


def test_site_from_json():
    """What the builder writes."""
    data = {
        "hostname": "mail.ours.example",
        "local_domains": ["ours.example", "also.example"],
        "signed": ["ours.example"],
        "signed_below": [],
        "junk": ["ours.example"],
        "extended": [],
        "forwarded": {"out@ours.example": True},
        "dmarc": "mark",
        "spf_fail": "tag",
        "spf_temperror": "defer-early",
        "local_sender": None,
        "dns_hours": 7,
        "dns_action": "reject",
        "skip_networks": ["198.51.100.0/24", "2001:db8:5::/48"],
        "skip_domains": ["list.example"],
    }
    assert Site.from_json(data) == replace(
        MARK,
        spf_fail="tag",
        spf_temperror="defer-early",
        local_sender=None,
        dns_hours=7,
        dns_action="reject",
        signed=frozenset({"ours.example"}),
        junk=frozenset({"ours.example"}),
        forwarded={"out@ours.example": True},
    )
