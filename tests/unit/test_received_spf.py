"""mailstack_auth.spf: what a client sends ends up in the header as a quoted value or not at all (RFC 7208)."""

import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailstack.render import SITE, site
from mailstack_auth import protocol, spf
from unit.sites import stack

POLICY = spf.Policy("mail.example.com", {})

# The grammar of RFC 7208 section 9.1, and what it takes from RFC 5322: strict, since others parse this too.
_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_DOT_ATOM = rf"{_ATEXT}(?:\.{_ATEXT})*"
_QUOTED = r'"(?:[\t !#-\[\]-~]|\\[\t -~])*"'
_START = re.compile(
    r"Received-SPF: (?P<result>pass|fail|softfail|neutral|none|temperror|permerror) "
    r"\((?P<comment>[\t !-'*-\[\]-~]*)\) ",
    re.IGNORECASE,
)
_PAIR = re.compile(rf"(?P<key>[A-Za-z][A-Za-z0-9._-]*)=(?:(?P<atom>{_DOT_ATOM})|(?P<quoted>{_QUOTED}))(?:; |$)")


def parse(line):
    """The result and the pairs of a header; anything that the grammar does not allow is an error."""
    start = _START.match(line)
    assert start, line
    pairs, at = {}, start.end()
    while at < len(line):
        pair = _PAIR.match(line, at)
        assert pair, line[at:]
        assert pair["key"] not in pairs
        quoted = pair["quoted"]
        pairs[pair["key"]] = pair["atom"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted[1:-1])
        at = pair.end()
    return start["result"], pairs


def header(helo, sender, result="Fail", identity="mailfrom", client="192.0.2.1"):
    return spf._header(result, identity, {"client_address": client, "helo_name": helo, "sender": sender}, POLICY)


# Any code point, those of undecodable octets included, and often the characters that mean something in a header.
ANYTHING = st.text(
    st.one_of(st.characters(exclude_categories=()), st.sampled_from('"\\();=, @.<>\t\r\n\x00\x7f\x85\u2028\udcffaé')),
    max_size=300,
)


@given(ANYTHING, ANYTHING)
@example("mail.example.org", '"a); dkim=pass header.d=bank.example ("@b.example')
@example("x\r\nReceived-SPF: Pass", "a@b.example\n")
@example("[192.0.2.1]", "")
@example('\\"; identity=helo; x="', "a\\")
@example("é.example", "\udcfc@example.org")
@example("mail..example.org.", "a" * 400 + "@example.org")
def test_header_holds_the_values_or_leaves_them_out(helo, sender):
    """Whatever a client says, the header is one line with exactly these values; only what cannot stand is left out."""
    line = header(helo, sender)
    assert protocol.reply(f"PREPEND {line}")
    result, pairs = parse(line)
    given_values = {"helo": helo, "envelope-from": sender}
    fixed = {"identity": "mailfrom", "client-ip": "192.0.2.1", "receiver": "mail.example.com"}
    assert result == "Fail"
    assert pairs == fixed | {name: value for name, value in given_values.items() if name in pairs}
    for name, value in given_values.items():
        if value.isascii() and value.isprintable() and len(value) <= 256:
            assert pairs[name] == value


@pytest.mark.parametrize("client", ["192.0.2.1", "2001:db8::25"])
def test_client_address_in_the_grammar(client):
    """Addresses of both families are values of the grammar, in which a colon is quoted."""
    assert parse(header("mail.example.org", "a@example.org", client=client))[1]["client-ip"] == client


@pytest.mark.parametrize(
    ("helo", "sender"),
    [("a" * 1000, "b" * 1000), ("a.example", '"' * 256), ("\\" * 256, "\\" * 256), ("a", "b" * 200 + "@b.example")],
)
def test_header_fits_a_line(helo, sender):
    """A header's line is no longer than 998 octets (RFC 5322 section 2.1.1): nobody folds it later."""
    assert len(header(helo, sender)) <= 998


@pytest.mark.parametrize("result", sorted(spf._RESULTS))
@pytest.mark.parametrize("identity", ["mailfrom", "helo"])
def test_header_has_result_and_identity(result, identity):
    """Every result of spf-engine is one of the grammar's, and the header says whose it is."""
    found, pairs = parse(header("mail.example.org", "a@example.org", result, identity))
    assert (found, pairs["identity"]) == (result, identity)


REFUSALS = {
    "Fail": "550 5.7.23 ",
    "Softfail": "550 5.7.23 ",
    "Permerror": "550 5.7.24 ",
    "Temperror": "DEFER_IF_PERMIT 4.7.24 ",
}


@given(ANYTHING)
@example("EXAMPLE.org")
@example("example.org\n")
@example("a.example may send 250 OK")
@example("a" * 254)
def test_refusal_is_a_status_and_a_line(domain):
    """A refusal has the code of RFC 7372, fits a reply line (RFC 5321), and names a domain only if it looks like one."""
    for result, start in REFUSALS.items():
        text = spf._refusal(result, "mailfrom", domain, "2001:db8::25")
        assert protocol.reply(text)
        assert text.startswith(start)
        assert len(text) <= 510
        named = re.fullmatch(r"[A-Za-z0-9._-]{1,253}", domain) is not None
        assert f" {domain.lower()}" in text if named else "the sender's domain" in text


SPELLINGS = {
    "plain": ("mail.example.org", "a@fail.example", "Fail"),
    "an at sign in the local part": ("mail.example.org", "a@b@fail.example", "Fail"),
    "a final dot": ("mail.example.org", "a@fail.example.", "Fail"),
    "both, and a HELO that passes": ("pass.example", "a@b@fail.example.", "Fail"),
    "null sender, HELO with a final dot": ("fail.example.", "", "Fail"),
    "null sender, HELO that passes, with a final dot": ("pass.example.", "", "Pass"),
}


@pytest.mark.parametrize(("helo", "sender", "result"), SPELLINGS.values(), ids=SPELLINGS.keys())
def test_spelling_hides_no_record(helo, sender, result, monkeypatch):
    """Postfix takes these for addresses of the domain, so the domain's record judges them."""
    zone = {"fail.example": b"v=spf1 -all", "pass.example": b"v=spf1 +all"}

    def look_up(name, kind, strict=True, timeout=20):
        return [((name, kind), (zone[name],))] if kind == "TXT" and name in zone else []

    monkeypatch.setattr(spf.pyspf, "DNSLookup", look_up)
    policy = spf.Policy("mail.example.com", {"fail": "reject-early"})
    verdict = spf.judge({"client_address": "192.0.2.1", "helo_name": helo, "sender": sender}, policy)
    assert verdict.result == result
    assert verdict.action.startswith("550 5.7.23 " if result == "Fail" else "PREPEND Received-SPF: Pass")


def test_skipped_client_is_not_judged():
    """A relay that hands on other people's mail gets a header of its own, which is no SPF result."""
    policy = spf.Policy.from_json({"hostname": "mail.example.com", "actions": {}, "skip_networks": ["2001:db8::/32"]})
    verdict = spf.judge({"client_address": "2001:DB8::53", "helo_name": '"', "sender": "\n"}, policy)
    assert verdict.action == "PREPEND X-SPF-Skipped: mail.example.com trusts 2001:db8::53 to hand on mail"


def test_policy_is_the_sites():
    """What the builder writes for the service is what the service reads."""
    tree = site(stack(spf_fail="reject-early", spf_temperror="tag", spf_skip_networks="192.0.2.53,2001:db8::/32"))
    policy = spf.Policy.from_json(json.loads(tree[f"{SITE}/policyd-spf/etc/policyd-spf/policy.json"].content))
    assert policy.hostname == "mail.example.com"
    assert policy.actions == {"fail": "reject-early", "softfail": "tag", "permerror": "tag", "temperror": "tag"}
    assert [str(one) for one in policy.skip_networks] == ["192.0.2.53/32", "2001:db8::/32"]
