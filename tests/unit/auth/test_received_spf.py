"""mailstack_auth.spf.received_spf: what a client sends ends up in the header as a quoted value or not at all (RFC 7208)."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailstack_auth.spf import policy_protocol, received_spf
from mailstack_auth.spf.evaluation import RESULTS, Result
from received_spf import parse


def header(helo, sender, result="fail", identity="mailfrom", client="192.0.2.1"):
    return received_spf.field(Result(identity, "x.example", result, ""), client, helo, sender, "mail.example.com")


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
    assert policy_protocol.reply(f"PREPEND {line}")
    result, pairs = parse(line)
    given_values = {"helo": helo, "envelope-from": sender}
    fixed = {"identity": "mailfrom", "client-ip": "192.0.2.1", "receiver": "mail.example.com"}
    assert result == "fail"
    assert pairs == fixed | {name: value for name, value in given_values.items() if name in pairs}
    for name, value in given_values.items():
        if value.isascii() and value.isprintable() and len(value) <= 160:
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
    found = header(helo, sender)
    assert parse(found)[1]["client-ip"] == "192.0.2.1"
    assert len(found) <= 998


@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize("identity", ["mailfrom", "helo"])
def test_header_has_result_and_identity(result, identity):
    """Every result is one of the grammar's, and the header says whose it is."""
    found, pairs = parse(header("mail.example.org", "a@example.org", result, identity))
    assert (found, pairs["identity"]) == (result, identity)
