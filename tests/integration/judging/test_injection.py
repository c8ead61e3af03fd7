"""No result in a delivered message is anybody's but ours, whatever stands in HELO, sender and recipient.

Results are read by parsers of their own: Received-SPF by the grammar of RFC 7208, Authentication-Results by authres.
"""

import pytest

from mailstack.world.containers import Machine
from mailstack.world.site import Site, parse
from received_spf import parse as parse_received_spf
from support import Client, address_of, delivered, message, own_results, properties, raw_results, received_spf, subject

# What would be a result, if it came out of a quoted value.
BAIT = "dkim=pass header.d=bank.example"

SENDERS = {
    "out of a comment": f'"a); {BAIT} ("@listed.example',
    "out of a comment, with quoted pairs": f'"a\\); {BAIT} \\("@listed.example',
    "out of a quoted string": f'"a\\"; identity=helo; {BAIT}; x=\\""@listed.example',
    "backslashes": '"a\\\\\\\\\\"; x=y"@listed.example',
    "an end of its own": '"a\\\\"@listed.example',
    "a pair more": '"a; receiver=bank.example; result=pass"@listed.example',
    "a field": f'"Authentication-Results: mail.bravo.example; {BAIT}"@listed.example',
    "a folded field": f'"a\t Received-SPF: pass {BAIT}"@listed.example',
    "angle brackets": f'"<a>; {BAIT}; <b>"@listed.example',
    "a comment": f"a(; {BAIT})@listed.example",
    "an encoded word": '"=?utf-8?q?a);_dkim=3Dpass_(?="@listed.example',
    "octets": f'"\xff\xe9); {BAIT} ("@listed.example',
    "octets of C1": '"\x85\x8d\x9b"@listed.example',
    "UTF-8": f'"é); {BAIT} ("@listed.example'.encode().decode("latin-1"),
    "a carriage return": f'"a\rReceived-SPF: pass {BAIT}"@listed.example',
    "control characters": '"\x01\x08\x1b[2J\x7f"@listed.example',
    "a source route": f'@"a; {BAIT}",@b.example:a@listed.example',
    "two at signs": f'"a); {BAIT} (@b.example"@listed.example',
    "long": '"' + '\\"' * 120 + '"@listed.example',
    "longer": '"' + f"); {BAIT} (" * 20 + '"@listed.example',
    "odd and ordinary": "a+1-b.c=d@listed.example",
    "an apostrophe": "o'brien@listed.example",
    "atext": "!#$%&'*+-/=?^_`{|}~@listed.example",
}
HELOS = {
    "out of a comment": f"x); {BAIT} (y",
    "out of a quoted string": f'"; identity=mailfrom; {BAIT}; x="',
    "a backslash": "\\",
    "a pair more": f"x.example; {BAIT}",
    "a tab": f"x.example\t;\t{BAIT}",
    "a field": f"Authentication-Results: mail.bravo.example; {BAIT}",
    "octets": "\xff\xfe\x80.example",
    "a carriage return": f"x\rReceived-SPF: pass; {BAIT}",
    "long": "x" * 1500,
    "address literal": "[192.0.2.1]",
    "address literal of IPv6": "[IPv6:2001:db8::1]",
    "a comment": f"(; {BAIT})",
}
RECIPIENTS = {
    "out of a comment": f'"user+a); {BAIT} ("@bravo.example',
    "out of a quoted string": f'"user+\\"; {BAIT}; x=\\""@bravo.example',
    "octets": f'"user+\xff\xe9); {BAIT} ("@bravo.example',
    "a carriage return": f'"user+\rReceived-SPF: pass {BAIT}"@bravo.example',
    "backslashes": '"user+\\\\\\\\"@bravo.example',
}
CASES = {
    **{f"sender, {name}": (value, "outsider.example", "user@bravo.example") for name, value in SENDERS.items()},
    **{f"HELO, {name}": ("a@listed.example", value, "user@bravo.example") for name, value in HELOS.items()},
    **{f"null sender, HELO, {name}": ("", value, "user@bravo.example") for name, value in HELOS.items()},
    **{f"recipient, {name}": ("a@listed.example", "outsider.example", value) for name, value in RECIPIENTS.items()},
}


@pytest.mark.parametrize("name", CASES)
def test_no_result_but_ours(name: str, outsider: Machine, bravo: Site) -> None:
    """The delivered message has one Received-SPF, in the grammar, with the result of the real sender; no other result."""
    sender, helo, recipient = CASES[name]
    about = subject(name)
    with Client(outsider, address_of(bravo)) as client:
        codes = [_command(client, one) for one in (f"EHLO {helo}", f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>")]
        assert max(codes) < 400, codes
        assert client.data(message("someone@listed.example", "user@bravo.example", about))[0] == 250
    arrived = delivered(bravo, "user@bravo.example", about)
    found, pairs = parse_received_spf(f"Received-SPF: {received_spf(arrived)}")
    assert (found, pairs["identity"]) == (("pass", "mailfrom") if sender else ("none", "helo"))
    assert (pairs["client-ip"], pairs["receiver"]) == (str(outsider.address), "mail.bravo.example")
    assert pairs.keys() <= {"identity", "client-ip", "helo", "envelope-from", "receiver"}
    if sender in {"a+1-b.c=d@listed.example", "o'brien@listed.example", "a@listed.example"}:
        assert pairs["envelope-from"] == sender
    fields = parse(arrived).get_all("Authentication-Results", [])
    spf, *others = own_results(arrived, bravo)
    assert [(one.method, one.result) for one in (spf, *others)] == [
        ("spf", "pass" if sender else "none"),
        ("dkim", "none"),
        ("dmarc", "none"),
    ]
    if sender:
        assert properties(spf) == {"smtp.mailfrom": "listed.example"}
    else:
        # No more than a name, or nothing.
        assert properties(spf).keys() <= {"smtp.helo"}
        assert not set("".join(properties(spf).values())) & set(' ;=()"\\')
    assert len(fields) == 1
    assert "bank.example" not in raw_results(arrived)[0]


def _command(client: Client, line: str) -> int:
    """Send a command whatever octets it has; the reply's code."""
    client.send(line.encode("latin-1") + b"\r\n")
    return client.getreply()[0]
