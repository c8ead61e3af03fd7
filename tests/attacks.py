"""The attacks, one a row: what the client sends, octet by octet, and what must come of it.

Attackers own evil.example: mail from it passes SPF, DKIM and DMARC. They want a reader to see an author of bank.example
(which asks receivers to reject what is not its own), of the receiving site itself, or of another customer of the site
that they send through; or a result that lets one of these pass. Kinds of attack: Chen, Paxson, Jiang, "Composition
Kills" (USENIX Security 2020), whose 22 cases stand in the tool espoofer; SMTP smuggling (2023).
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

import dkim

from place import EDGE

BANK, EVIL = "bank.example", "evil.example"
# The receiving site, and what it calls itself in results.
LOCAL, HOSTNAME = "bravo.example", "mail.bravo.example"
# Who sends through alpha, and another of its customers.
CUSTOMER, NEIGHBOUR = "alpha.example", "alpine.example"
# An address of the bank's own server.
BANK_ADDRESS = str(EDGE[61])
SELECTOR = b"selector"

# What comes of an attack: how the first reply that is not positive begins, or one of the next.
AMBIGUOUS = "550 5.7.1"
NUL, LINE_FEED = "550 5.7.1 disallowed character", "550 5.5.2 "
LONG = "552 5.3.4 header field"
DELIVERED = "delivered"
# DMARC fails, and where nothing passes for the attackers either, it is refused; else it is put aside.
FAILS = "DMARC fails"
# The site's own domain: where nothing passes it is dropped if the envelope uses it (a refusal would be a bounce to the
# victim), and refused if From does; else it is put aside.
FORGED = "forged"

# Where alpha's client trusts it: on port 25, or the submission port.
Way = Literal["outside", "relay", "submission"]


@dataclass(frozen=True)
class Signature:
    """A DKIM signature by dkimpy. Whose key it is does not depend on what it claims."""

    domain: bytes
    selector: bytes = SELECTOR
    key: Literal["evil", "bank"] = "evil"
    covers: tuple[bytes, ...] = (b"from", b"subject")
    identity: bytes | None = None
    algorithm: bytes = b"rsa-sha256"
    # With l=.
    length: bool = False

    def sign(self, content: bytes, keys: Mapping[str, bytes]) -> bytes:
        made = dkim.sign(
            content,
            self.selector,
            self.domain,
            keys[self.key],
            identity=self.identity,
            signature_algorithm=self.algorithm,
            include_headers=list(self.covers),
            length=self.length,
        )
        return bytes(made) + content


# The other fields of every message; "{row}" is what tells one from the others.
REST = b"To: <user@bravo.example>\r\nSubject: {row}\r\nDate: Wed, 25 Nov 2026 12:00:00 +0000\r\nMessage-ID: <{row}@evil.example>\r\n"
FROM_BANK, FROM_EVIL = b"From: <admin@bank.example>\r\n", b"From: <any@evil.example>\r\n"


@dataclass(frozen=True)
class Attack:
    """A row. Without more it is a forged From from a host that its own domain's SPF names."""

    name: str
    outcome: str | tuple[str, ...]
    fields: bytes = FROM_BANK
    _: KW_ONLY
    # Whom it pretends to be.
    victim: str = BANK
    way: Way = "outside"
    # Its id in espoofer.
    espoofer: str = ""
    # Commands whose replies do not matter.
    before: tuple[bytes, ...] = ()
    helo: bytes = b"mx.evil.example"
    sender: bytes = b"<any@evil.example>"
    recipient: bytes = b"<user@bravo.example>"
    body: bytes = b"A body.\r\n"
    signed: Signature | None = None
    # What is added after signing, at either end.
    above: bytes = b""
    below: bytes = b""
    # The whole message in place of all that.
    content: bytes | None = None
    # The whole conversation behind the greeting, a reply awaited after each piece.
    pieces: tuple[bytes, ...] | None = None
    # The first piece does not wait for the greeting.
    early: bool = False

    def message(self, row: str, keys: Mapping[str, bytes]) -> bytes:
        """The message without the end of data."""
        if self.content is not None:
            return self.content.replace(b"{row}", row.encode())
        signed = (self.fields + REST + b"\r\n" + self.body).replace(b"{row}", row.encode())
        if self.signed is not None:
            signed = self.signed.sign(signed, keys)
        return self.above + signed + self.below.replace(b"{row}", row.encode())

    def conversation(self, row: str, keys: Mapping[str, bytes]) -> tuple[bytes, ...]:
        """What is sent piece by piece, unless a reply is negative."""
        if self.pieces is not None:
            return tuple(one.replace(b"{row}", row.encode()) for one in self.pieces)
        return (
            b"EHLO " + self.helo + b"\r\n",
            b"MAIL FROM:" + self.sender + b"\r\n",
            b"RCPT TO:" + self.recipient + b"\r\n",
            b"DATA\r\n",
            self.message(row, keys) + b".\r\n",
        )


SENDER_OF_ESPOOFER = b"Sender: <s@sender.bank.example>\r\n"


def _case(espoofer: str, name: str, outcome: str, fields: bytes = FROM_BANK, **others: Any) -> Attack:
    return Attack(f"{espoofer}: {name}", outcome, fields, espoofer=espoofer, **others)


_CUSTOMER: Mapping[str, Any] = {"way": "submission", "sender": b"<user@alpha.example>"}
CASES_OF_ESPOOFER = (
    _case(
        "server_a1", "non-existing sub-domain in MAIL FROM", "450 4.1.8", sender=b"<any@mailfrom.notexist.bank.example>"
    ),
    _case("server_a2", "MAIL FROM that is a comment without end", FAILS, sender=b"<(any@bank.example>"),
    _case(
        "server_a3",
        "NUL in the selector, behind a name of the attacker's",
        NUL,
        signed=Signature(b"bank.example", b"selector._domainkey.evil.example.\x00.any"),
    ),
    _case("server_a4", "single quote in the signing domain", FAILS, signed=Signature(b"bank.example'a.evil.example")),
    _case("server_a5", "parenthesis in MAIL FROM's domain", FAILS, sender=b"<any@bank.example(a.evil.example>"),
    _case(
        "server_a6", "single quote and a second @ in MAIL FROM", FAILS, sender=b"<any@bank.example'@any.evil.example>"
    ),
    _case("server_a7", "route in MAIL FROM", FAILS, sender=b"<@bank.example,@any.example:'any@evil.example>"),
    _case("server_a8", "two From fields", AMBIGUOUS, b"From: <first@evil.example>\r\n" + FROM_BANK),
    _case(
        "server_a9",
        "two From fields, the first with a space before",
        AMBIGUOUS,
        b" From: <first@evil.example>\r\n" + FROM_BANK,
    ),
    _case(
        "server_a10",
        "two From fields, the second with a space behind",
        AMBIGUOUS,
        b"From: <first@evil.example>\r\nFrom : <admin@bank.example>\r\n",
    ),
    _case(
        "server_a11",
        "two From fields, the first folded before its colon",
        AMBIGUOUS,
        b"From\r\n : <first@evil.example>\r\n" + FROM_BANK,
    ),
    _case(
        "server_a12",
        "From folded before its colon, and Sender",
        AMBIGUOUS,
        content=b"From\r\n : <first@evil.example>\r\nn" + REST + b"Sender: <admin@bank.example>\r\n\r\nA body.\r\n",
    ),
    _case(
        "server_a13",
        "From folded before its colon, and Resent-From",
        AMBIGUOUS,
        content=b"From\r\n : <first@evil.example>\r\nn"
        + REST
        + b"Resent-From: <admin@bank.example>\r\n\r\nA body.\r\n",
    ),
    _case(
        "server_a14",
        "two addresses",
        AMBIGUOUS,
        b"From: <first@evil.example>, <admin@bank.example>\r\n" + SENDER_OF_ESPOOFER,
    ),
    _case(
        "server_a15",
        "encoded address before another",
        AMBIGUOUS,
        b"From:=?utf-8?B?PGFkbWluQGJhbmsuZXhhbXBsZT4=?=,<second@evil.example>\r\n" + SENDER_OF_ESPOOFER,
    ),
    _case(
        "server_a16",
        "route in From",
        AMBIGUOUS,
        b"From: <@evil.example,@any.example:admin@bank.example>\r\n" + SENDER_OF_ESPOOFER,
    ),
    _case(
        "server_a17",
        "quoted pair between addresses",
        AMBIGUOUS,
        b"From: <admin@bank.example>\\,<second@evil.example>\r\n" + SENDER_OF_ESPOOFER,
    ),
    _case(
        "server_a18",
        "bare address before one in brackets",
        AMBIGUOUS,
        b"From: admin@bank.example,<second@evil.example>\r\n" + SENDER_OF_ESPOOFER,
    ),
    _case(
        "server_a19",
        "address behind the brackets",
        AMBIGUOUS,
        b"From: <any@evil.example>admin@bank.example\r\n" + SENDER_OF_ESPOOFER,
    ),
    _case(
        "client_a1",
        "a customer's two From fields",
        "550 5.6.0",
        b"From: <user@alpha.example>\r\n" + FROM_BANK,
        **_CUSTOMER,
    ),
    _case(
        "client_a2",
        "a customer's two addresses",
        "550 5.6.0",
        b"From: <user@alpha.example>, <admin@bank.example>\r\n" + SENDER_OF_ESPOOFER,
        **_CUSTOMER,
    ),
    _case("client_a3", "a customer's From of somebody else", FAILS, FROM_BANK + SENDER_OF_ESPOOFER, **_CUSTOMER),
)


def _sender(name: str, octets: bytes, outcome: str = FAILS) -> Attack:
    return Attack(f"MAIL FROM: {name}", outcome, sender=octets)


def _helo(name: str, octets: bytes) -> Attack:
    return Attack(name, FAILS, helo=octets, sender=b"<>")


# Who the envelope says that it is: SPF's question, with its answer for somebody else.
ENVELOPE = (
    Attack("nothing but a forged From", FAILS),
    _sender("sender of the bank", b"<admin@bank.example>"),
    Attack("sender of the bank, HELO of evil", "550 5.7.23", FROM_EVIL, sender=b"<admin@bank.example>"),
    Attack("HELO of the bank", FAILS, helo=b"bank.example"),
    _helo("HELO of the bank, null sender", b"bank.example"),
    _sender("HELO of evil passes, null sender", b"<>"),
    _helo("HELO below the bank, null sender", b"mx.bank.example"),
    _helo("HELO of the bank and an opening parenthesis", b"bank.example(.evil.example"),
    _helo("HELO of two words", b"bank.example evil.example"),
    _helo("HELO with the bank's address", f"[{BANK_ADDRESS}]".encode()),
    _helo("HELO with a NUL", b"bank.example\x00.evil.example"),
    Attack("HELO twice", FAILS, before=(b"EHLO bank.example\r\n",), sender=b"<>"),
    _helo("HELO below evil, whose SPF passes, and null sender", b"bank.example.evil.example"),
    _sender("domain that begins as the bank's", b"<admin@bank.example.evil.example>"),
    _sender("domain that ends as the bank's", b"<admin@evilbank.example>", "450 4.1.8"),
    _sender("comment behind the domain", b"<any@evil.example(@bank.example)>"),
    _sender("comment in the domain", b"<any@bank.example(.evil.example)>"),
    _sender("comment before the domain", b"<any@(bank.example)evil.example>"),
    _sender("comment before the address", b"<(admin@bank.example)any@evil.example>"),
    _sender("address in a quoted local part", b'<"admin@bank.example"@evil.example>'),
    _sender("quoted pair before the second @", b"<admin@bank.example\\@evil.example>"),
    _sender("two @, the bank first", b"<admin@bank.example@evil.example>"),
    _sender("two @, the bank last", b"<any@evil.example@bank.example>"),
    _sender("route over evil to the bank", b"<@evil.example:admin@bank.example>"),
    _sender("route over the bank to evil", b"<@bank.example:any@evil.example>"),
    _sender("percent for the @", b"<admin%bank.example@evil.example>"),
    _sender("bang path", b"<bank.example!any@evil.example>"),
    _sender("two addresses in brackets", b"<admin@bank.example> <any@evil.example>", "555 5.5.4"),
    _sender("two addresses and a comma", b"<admin@bank.example,any@evil.example>", "501 5.1.7"),
    _sender("bracket in brackets", b"<<admin@bank.example>any@evil.example>", "501 5.1.7"),
    _sender("without brackets", b"admin@bank.example"),
    _sender("name before the brackets", b"admin@bank.example <any@evil.example>", "555 5.5.4"),
    _sender("domain literal", f"<admin@[{BANK_ADDRESS}]>".encode()),
    _sender("quoted domain", b'<admin@"bank.example">'),
    _sender("final dot", b"<admin@bank.example.>"),
    _sender("space before the domain", b"<admin@ bank.example>"),
    _sender("NUL behind the domain", b"<admin@bank.example\x00.evil.example>", "501 5.1.7"),
    _sender("bare CR behind the domain", b"<admin@bank.example\r.evil.example>"),
    _sender("backspace behind the domain", b"<admin@bank.example\x08.evil.example>", "501 5.1.7"),
    _sender("octets behind the domain", b"<admin@bank.example\xff.evil.example>", "501 5.1.7"),
    _sender("full-width letters in the domain", "<admin@\uff42ank.example>".encode(), "501 5.1.7"),
    _sender("fold in the sender", b"<admin@bank.example\r\n .evil.example>", "501 5.1.7"),
    _sender("sender on two lines", b"\r\n <admin@bank.example>", "501 5.5.4"),
    _sender("AUTH= of the bank", b"<any@evil.example> AUTH=admin@bank.example"),
    _sender("SMTPUTF8 that nobody offered", b"<any@evil.example> SMTPUTF8", "555 5.5.4"),
    _sender("long local part", b"<" + b"a" * 1800 + b"@bank.example>"),
    Attack(
        "MAIL of the bank, RSET, MAIL of evil",
        FAILS,
        before=(b"EHLO mx.evil.example\r\n", b"MAIL FROM:<admin@bank.example>\r\n", b"RSET\r\n"),
    ),
    Attack(
        "MAIL twice without RSET",
        FAILS,
        before=(
            b"EHLO mx.evil.example\r\n",
            b"MAIL FROM:<any@evil.example>\r\n",
            b"RCPT TO:<user@bravo.example>\r\n",
            b"MAIL FROM:<admin@bank.example>\r\n",
        ),
        pieces=(b"DATA\r\n", FROM_BANK + REST + b"\r\nA body.\r\n.\r\n"),
    ),
    Attack(
        "XCLIENT with the bank's address",
        FAILS,
        before=(b"EHLO mx.evil.example\r\n", f"XCLIENT ADDR={BANK_ADDRESS} NAME=bank.example\r\n".encode()),
    ),
    Attack(
        "XFORWARD with the bank's address",
        FAILS,
        before=(b"EHLO mx.evil.example\r\n", f"XFORWARD ADDR={BANK_ADDRESS} NAME=bank.example\r\n".encode()),
    ),
    Attack(
        "PROXY with the bank's address",
        FAILS,
        before=(f"PROXY TCP4 {BANK_ADDRESS} {EDGE[11]} 4711 25\r\n".encode(),),
    ),
    Attack("AUTH from outside", FAILS, before=(b"EHLO mx.evil.example\r\n", b"AUTH PLAIN AHVzZXIAdXNlcg==\r\n")),
)


def _author(name: str, value: bytes, outcome: str = AMBIGUOUS, **others: str) -> Attack:
    return Attack(f"From: {name}", outcome, b"From: " + value + b"\r\n", **others)  # type: ignore[arg-type]


# Who the message says that it is: one From field, in which readers find different addresses.
AUTHOR = (
    _author("two addresses without brackets", b"any@evil.example, admin@bank.example"),
    _author("two addresses and a semicolon", b"<any@evil.example>; <admin@bank.example>"),
    _author("two addresses and a space", b"<any@evil.example> <admin@bank.example>"),
    _author("two addresses and nothing between", b"<any@evil.example><admin@bank.example>"),
    _author("two addresses, one empty", b"<>, <admin@bank.example>"),
    _author("many addresses", b", ".join([b"<any@evil.example>"] * 500 + [b"<admin@bank.example>"])),
    _author("address before brackets", b"admin@bank.example <any@evil.example>"),
    _author("spaced address before brackets", b"admin @ bank . example <any@evil.example>"),
    _author("address in brackets in brackets", b"<admin@bank.example<any@evil.example>>"),
    _author("brackets without end", b"<admin@bank.example <any@evil.example>"),
    _author("brackets in a name", b"Admin <admin@bank.example> via <any@evil.example>"),
    _author("empty brackets behind", b"admin@bank.example <>"),
    _author("route", b"<@bank.example:any@evil.example>"),
    _author("route to the bank", b"<@evil.example:admin@bank.example>"),
    _author("group", b"Bank: <admin@bank.example>;"),
    _author("group of several", b"Bank: <admin@bank.example>, <any@evil.example>;"),
    _author("group and an address", b"Bank: <admin@bank.example>; <any@evil.example>"),
    _author("empty group before", b"x:; <admin@bank.example>"),
    _author("address as the group's name", b"admin@bank.example: <any@evil.example>;"),
    _author("address in a comment", b"any@evil.example (admin@bank.example)"),
    _author("address in a comment before", b"(admin@bank.example) <any@evil.example>"),
    _author("brackets in a comment", b"(<admin@bank.example>) <any@evil.example>"),
    _author("comment in the address", b"admin(x)@bank.example"),
    _author("comment before the domain", b"<admin@(evil.example)bank.example>"),
    _author("comment behind the domain", b"admin@bank.example(.evil.example)", FAILS),
    _author("comment behind the domain, in brackets", b"<admin@bank.example(.evil.example)>"),
    _author("comment that ends nowhere", b"<admin@bank.example>(<any@evil.example>"),
    _author("comment that ends twice", b"(x)) <admin@bank.example> (<any@evil.example>"),
    _author("nested comment", b"(a(b) <admin@bank.example>) <any@evil.example>"),
    _author("quoted pair in a comment", b"(\\) <admin@bank.example> (\\() <any@evil.example>"),
    _author("half a string in comments", b'(") <admin@bank.example> (") <any@evil.example>'),
    _author("address as a quoted local part", b'"admin@bank.example"@evil.example'),
    _author("brackets as a quoted local part", b'"<admin@bank.example>"@evil.example'),
    _author("string without end", b'"Admin <admin@bank.example>, <any@evil.example>'),
    _author("quoted pair at a string's end", b'"Admin\\" <admin@bank.example>," <any@evil.example>'),
    _author("quoted pair outside", b'\\" <admin@bank.example> \\" <any@evil.example>'),
    _author("fold in a string with an address", b'"Admin,\r\n <admin@bank.example>" <any@evil.example>'),
    _author("quoted domain", b'<admin@"bank.example">'),
    _author("quoted address", b'"admin@bank.example"'),
    _author("quoted address and square brackets", b'"admin@bank.example" [x] <any@evil.example>'),
    _author("two @, the bank first", b"<admin@bank.example@evil.example>"),
    _author("two @, the bank last", b"<any@evil.example@bank.example>"),
    # Programs read on over blanks and comments.
    _author("words after the bank's address", b"admin@bank.example m <any@evil.example>"),
    _author("a letter that completes the domain", b"any@bank.exampl e <any@bank.exampl>"),
    _author("a letter and a fold", b"any@bank.exampl\r\n e <any@bank.exampl>"),
    _author("domain after evil's address", b"any@evil.example .bank.example <any@evil.example>"),
    _author("domain after evil's address and a fold", b"any@evil.example\r\n .bank.example <any@evil.example>"),
    _author("domain after evil's address and a comment", b"any@evil.example (x) .bank.example <any@evil.example>"),
    _author("address between apostrophes", b"'admin@bank.example' <any@evil.example>"),
    # Or end strings elsewhere.
    _author("two backslashes at a string's end", b'"admin@bank.example\\\\" <any@evil.example>'),
    _author("two backslashes and a comment", b'"x\\\\"<any@evil.example>(.bank.example)'),
    _author(
        "quoted and unquoted address before the address", b'"admin@bank.example" any@evil.example <any@evil.example>'
    ),
    _author("quoted address before odd dots", b'"admin@bank.example" <any..x@evil.example>'),
    _author("quoted address before a final dot", b'"admin@bank.example" <any@evil.example.>'),
    _author("quoted address between strings", b'"x" "@bank.example" <any@evil.example>'),
    _author("a string that comments end", b'(") "admin@bank.example" (") <any@evil.example>'),
    # Or decode first.
    _author("encoded address and a comma", b"=?utf-8?q?admin=40bank.example=2C?= <any@evil.example>"),
    _author("encoded quotes in quotes", b'"=?utf-8?q?=22_=3Cadmin=40bank.example=3E?=" <any@evil.example>'),
    _author("encoded @", b"admin=?utf-8?q?=40?=bank.example <any@evil.example>"),
    _author("encoded end of a comment", b"any@evil.example (=?utf-8?q?=29?= .bank.example)"),
    _author("encoded quotation mark before a string", b'=?utf-8?q?=22?= "admin@bank.example" <any@evil.example>'),
    _author("address in UTF-7", b"=?utf-7?q?admin+AEA-bank.example?= <any@evil.example>"),
    _author("address in UTF-16", b"=?utf-16be?b?AGEAQABiAGEAbgBrAC4AZQB4AGEAbQBwAGwAZQ==?= <any@evil.example>"),
    # Genuine senders write all of these.
    _author("square brackets", b"[Support] Name <any@evil.example>", DELIVERED),
    _author("backslash", b"EVIL\\Jane <any@evil.example>", DELIVERED),
    _author("colon", b"Backup: host <any@evil.example>", DELIVERED),
    _author("evil's final dot", b"any@evil.example.", DELIVERED),
    _author("comment in a comment", b"John (a (b) c) <any@evil.example>", DELIVERED),
    _author("encoded comma", b"=?utf-8?q?D=C3=B6=2C_Jane?= <any@evil.example>", DELIVERED),
    _author("comma", b"Doe, Jane <any@evil.example>", "550 5.7.1 From has a comma outside of quotes"),
    _author("an @ between words", b"Jane @ Bank.example <any@evil.example>", '550 5.7.1 From has an "@" in the name'),
    _author("two authors without Sender", b"a@evil.example, b@evil.example"),
    _author("an author of a sub-domain", b"a@evil.example, b@bank.example.evil.example"),
    _author("percent for the @", b"<admin%bank.example>"),
    _author("encoded address", b"=?utf-8?q?admin=40bank.example?="),
    _author("encoded brackets", b"=?utf-8?q?=3Cadmin=40bank.example=3E?="),
    _author("encoded local part with the rest", b"=?utf-8?q?admin=40bank.example=3E?=@evil.example"),
    _author("encoded domain", b"admin@=?utf-8?q?bank.example?="),
    _author("encoded domain in brackets", b"<admin@=?utf-8?q?bank.example?=>"),
    _author("encoded words that join to an address", b"=?utf-8?q?admin=40?= =?utf-8?q?bank.example?="),
    _author("encoded address before square brackets", b"=?utf-8?q?admin=40bank.example?= [x] <any@evil.example>"),
    _author("encoded NUL behind the bank's address", b"=?utf-8?q?admin=40bank.example=00?=@evil.example"),
    _author(
        "encoded line end and a From field",
        b"=?utf-8?q?x=0D=0AFrom=3A_admin=40bank.example?= <any@evil.example>",
    ),
    _author("encoded bank's address as the name", b"=?utf-8?q?admin=40bank.example?= <any@evil.example>"),
    _author("encoded brackets as the name", b"=?utf-8?b?PGFkbWluQGJhbmsuZXhhbXBsZT4=?= <any@evil.example>"),
    _author("quoted bank's address as the name", b'"admin@bank.example" <any@evil.example>', DELIVERED),
    _author("quoted brackets as the name", b'"<admin@bank.example>" <any@evil.example>', DELIVERED),
    _author("quoted list as the name", b'"<admin@bank.example>," <any@evil.example>', DELIVERED),
    _author("NUL in the domain", b"<admin@bank.example\x00.evil.example>", NUL),
    _author("NUL before the brackets", b"admin@bank.example\x00 <any@evil.example>", NUL),
    _author("bare CR before the brackets", b"admin@bank.example\r<any@evil.example>"),
    _author("bare CR before a second From", b"<any@evil.example>\rFrom: <admin@bank.example>"),
    _author("bare LF before a second From", b"<any@evil.example>\nFrom: <admin@bank.example>", LINE_FEED),
    _author("backspace in the domain", b"<admin@bank.example\x08>"),
    _author("vertical tab between addresses", b"<any@evil.example>\x0b<admin@bank.example>"),
    _author("form feed between addresses", b"<any@evil.example>\x0c<admin@bank.example>"),
    _author("octets of C1 before the address", b"\x85<admin@bank.example>", FAILS),
    _author("octets in the domain", b"<admin@bank.example\xff>"),
    _author("next line of Unicode before an address", "<any@evil.example>\u2028<admin@bank.example>".encode()),
    _author("no-break space before an address", "<any@evil.example>\u00a0<admin@bank.example>".encode()),
    _author("right-to-left override in the domain", "<admin@bank.example\u202e>".encode()),
    _author("full-width @", "<admin\uff20bank.example>".encode()),
    _author("full-width letters in the domain", "<admin@\uff42ank.example>".encode(), FAILS),
    _author("ideographic full stop in the domain", "<admin@bank\u3002example>".encode(), FAILS),
    _author("soft hyphen in the domain", "<admin@ba\u00adnk.example>".encode(), FAILS),
    _author("zero-width joiner in the domain", "<admin@ba\u200bnk.example>".encode(), FAILS),
    _author("fraction slash in the domain", "<admin@bank.example\u2044.evil.example>".encode()),
    _author("final dot", b"<admin@bank.example.>", FAILS),
    _author("odd case", b"<ADMIN@Bank.EXAMPLE>", FAILS),
    _author("tabs around the address", b"<\tadmin@bank.example\t>", FAILS),
    _author("fold in the address", b"<admin@\r\n bank.example>"),
    _author("fold in the domain", b"<admin@bank.\r\n example>"),
    _author("value on the next line", b"\r\n <admin@bank.example>", FAILS),
    _author("value on the third line", b"\r\n \r\n <admin@bank.example>", FAILS),
    _author("sub-domain that is not there", b"<admin@no.such.bank.example>", FAILS),
    _author("a second From in the fold", b"<any@evil.example>\r\n From: <admin@bank.example>"),
    _author("no address", b"Admin of bank.example"),
    _author("domain alone", b"bank.example"),
    _author("empty", b""),
    _author("name of 50 kB before the address", b"a" * 50_000 + b" <admin@bank.example>", FAILS),
    # Postfix would cut these off at 60,000 octets, before anybody sees them.
    _author("name of 90 kB before the address", b"a" * 90_000 + b" <admin@bank.example>", LONG),
    _author(
        "address behind what Postfix cuts off",
        b'"' + b"a" * 102_400 + b'" <admin@bank.example>, <any@evil.example>',
        LONG,
    ),
    _author(
        "address before what Postfix cuts off",
        b"<any@evil.example>" + b" (a)" * 30_000 + b", <admin@bank.example>",
        LONG,
    ),
    _author(
        "folds of 90 kB before a second address",
        b"<any@evil.example>" + b"\r\n " * 30_000 + b", <admin@bank.example>",
        LONG,
    ),
)


def _fields(name: str, octets: bytes, outcome: str = AMBIGUOUS) -> Attack:
    return Attack(f"fields: {name}", outcome, octets)


# Which field is From: several, none, and what some take for one.
FIELDS = (
    _fields("the bank's From above evil's", FROM_BANK + FROM_EVIL),
    _fields(
        "the bank's From far below evil's", FROM_EVIL + b"".join(b"X-%d: x\r\n" % at for at in range(500)) + FROM_BANK
    ),
    _fields("FROM in capitals beside From", FROM_EVIL + b"FROM: <admin@bank.example>\r\n"),
    _fields("a tab before the colon", b"From\t: <admin@bank.example>\r\n" + FROM_EVIL),
    _fields("many spaces before the colon", FROM_EVIL + b"From" + b" " * 900 + b": <admin@bank.example>\r\n"),
    # Postfix takes a first line of such a beginning for a mailbox's separator, and renames it.
    _fields("a space before the colon in the first line", b"From : <admin@bank.example>\r\n" + FROM_EVIL, DELIVERED),
    _fields("a space before the only From's colon", b"From : <admin@bank.example>\r\n"),
    _fields("a space before the only From", b" From: <admin@bank.example>\r\n"),
    _fields(
        "From folded behind another field", FROM_EVIL + b"X-Field: x\r\n From: <admin@bank.example>\r\n", DELIVERED
    ),
    _fields(
        "From folded before its colon behind another field",
        FROM_EVIL + b"From\r\n : <admin@bank.example>\r\n",
        DELIVERED,
    ),
    _fields("two authors and Sender", b"From: a@evil.example, b@evil.example\r\nSender: a@evil.example\r\n", DELIVERED),
    _fields(
        "two authors and two Senders",
        b"From: a@evil.example, b@evil.example\r\nSender: a@evil.example\r\nSender: admin@bank.example\r\n",
    ),
    _fields(
        "two authors of two domains and Sender",
        b"From: a@evil.example, admin@bank.example\r\nSender: a@evil.example\r\n",
    ),
    _fields("no domain", b"From: MAILER-DAEMON\r\n"),
    Attack("notice: a name", DELIVERED, b"From: MAILER-DAEMON\r\n", sender=b"<>"),
    Attack(
        "notice: a name and a local part", DELIVERED, b"From: Mail Delivery System <MAILER-DAEMON>\r\n", sender=b"<>"
    ),
    Attack("notice: an empty address", DELIVERED, b"From: <>\r\n", sender=b"<>"),
    Attack("notice: an empty group", DELIVERED, b"From: Mail Delivery System:;\r\n", sender=b"<>"),
    Attack(
        "notice: signed by evil", DELIVERED, b"From: MAILER-DAEMON\r\n", sender=b"<>", signed=Signature(b"evil.example")
    ),
    Attack("notice: the bank's address", FAILS, sender=b"<>"),
    Attack("notice: an encoded address", AMBIGUOUS, b"From: =?utf-8?q?admin=40bank.example?=\r\n", sender=b"<>"),
    Attack("notice: full-width @", AMBIGUOUS, "From: <admin\uff20bank.example>\r\n".encode(), sender=b"<>"),
    Attack("notice: two From fields", AMBIGUOUS, b"From: <>\r\n" + FROM_BANK, sender=b"<>"),
    Attack("notice: no From", AMBIGUOUS, b"", sender=b"<>"),
    _fields("an empty From above", b"From:\r\n" + FROM_BANK),
    _fields("no-break space before the colon", FROM_EVIL + "From\u00a0: <admin@bank.example>\r\n".encode(), DELIVERED),
    _fields("byte order mark before From", FROM_EVIL + "\ufeffFrom: <admin@bank.example>\r\n".encode(), DELIVERED),
    _fields("a NUL in the field's name", FROM_EVIL + b"Fr\x00om: <admin@bank.example>\r\n", NUL),
    _fields("a bare CR in the field's name", FROM_EVIL + b"Fr\rom: <admin@bank.example>\r\n", DELIVERED),
    _fields("a bare CR before the field's name", FROM_EVIL + b"X: x\rFrom: <admin@bank.example>\r\n", DELIVERED),
    _fields("a backspace in the field's name", FROM_EVIL + b"From\x08: <admin@bank.example>\r\n", DELIVERED),
    _fields(
        "full-width letters in the field's name", FROM_EVIL + "\uff26rom: <admin@bank.example>\r\n".encode(), DELIVERED
    ),
    _fields("an encoded field name", FROM_EVIL + b"=?utf-8?q?From?=: <admin@bank.example>\r\n", DELIVERED),
    _fields("a second colon", FROM_EVIL + b"From:: <admin@bank.example>\r\n"),
    _fields("a second colon of the only From", b"From:: <admin@bank.example>\r\n", FAILS),
    _fields("no field name", FROM_EVIL + b": <admin@bank.example>\r\n", DELIVERED),
    _fields("mbox line of the bank", b"From admin@bank.example Wed Nov 25 12:00:00 2026\r\n" + FROM_EVIL, DELIVERED),
    _fields(
        "quoted mbox line of the bank", b">From admin@bank.example Wed Nov 25 12:00:00 2026\r\n" + FROM_EVIL, DELIVERED
    ),
    _fields("mbox line as the only From", b"From admin@bank.example Wed Nov 25 12:00:00 2026\r\n"),
    _fields("a line that is no field above From", b"no field\r\n" + FROM_BANK),
    _fields("a line that is no field between two From", FROM_EVIL + b"no field\r\n" + FROM_BANK, DELIVERED),
    _fields("an empty line between two From", FROM_EVIL + b"\r\n" + FROM_BANK, DELIVERED),
    _fields("a line of space between two From", FROM_EVIL + b" \r\n" + FROM_BANK),
    _fields("an empty line above all", b"\r\n" + FROM_BANK),
    _fields("a line of 200 kB between two From", FROM_EVIL + b"X: " + b"x" * 200_000 + b"\r\n" + FROM_BANK, LONG),
    _fields(
        "more fields than are looked at", b"".join(b"X-%d: x\r\n" % at for at in range(20_000)) + FROM_BANK, "552 5.3.4"
    ),
    _fields("no From, but Sender", b"Sender: <admin@bank.example>\r\n"),
    _fields("no From, but Resent-From", b"Resent-From: <admin@bank.example>\r\n"),
    _fields(
        "no From, but Reply-To and Return-Path",
        b"Reply-To: <admin@bank.example>\r\nReturn-Path: <admin@bank.example>\r\n",
    ),
    _fields(
        "Sender, Reply-To and Resent-From beside From",
        FROM_EVIL
        + b"Sender: <admin@bank.example>\r\nReply-To: <admin@bank.example>\r\nResent-From: <admin@bank.example>\r\n",
        DELIVERED,
    ),
    _fields(
        "X-From and its like beside From",
        FROM_EVIL
        + b"X-From: <admin@bank.example>\r\nApparently-From: <admin@bank.example>\r\nFrom-: <admin@bank.example>\r\n",
        DELIVERED,
    ),
    Attack(
        "From in a part of the message",
        DELIVERED,
        FROM_EVIL + b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n",
        body=b"--x\r\n" + FROM_BANK + b"\r\nA body.\r\n--x--\r\n",
    ),
    Attack(
        "From in a message in the message",
        DELIVERED,
        FROM_EVIL + b"MIME-Version: 1.0\r\nContent-Type: message/rfc822\r\n",
        body=FROM_BANK + b"Subject: x\r\n\r\nA body.\r\n",
    ),
    Attack(
        "From in the preamble",
        DELIVERED,
        FROM_EVIL + b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n",
        body=FROM_BANK + b"\r\n--x\r\n\r\nA body.\r\n--x--\r\n",
    ),
    Attack(
        "external body with the bank's From",
        DELIVERED,
        FROM_EVIL + b'MIME-Version: 1.0\r\nContent-Type: message/partial; id="x"; number=1; total=1\r\n',
        body=FROM_BANK + b"\r\nA body.\r\n",
    ),
)

_CLAIM = b" dkim=pass header.d=bank.example header.i=@bank.example; spf=pass smtp.mailfrom=bank.example; dmarc=pass header.from=bank.example\r\n"


def _results(name: str, start: bytes, field_name: bytes = b"Authentication-Results:") -> Attack:
    return Attack(f"results: {name}", DELIVERED, field_name + start + _CLAIM + FROM_EVIL)


# Results that claim to be the receiving site's own.
RESULTS = (
    _results("plain", b" mail.bravo.example;"),
    _results("no space", b"mail.bravo.example;"),
    _results("odd case", b" MAIL.Bravo.Example;", b"AUTHENTICATION-results:"),
    _results("a space before the colon", b" mail.bravo.example;", b"Authentication-Results :"),
    _results("a tab before the colon", b" mail.bravo.example;", b"Authentication-Results\t:"),
    _results("comment before the id", b" (x) mail.bravo.example;"),
    _results("nested comment before the id", b" (x(y)z) mail.bravo.example;"),
    _results("a semicolon in a comment before the id", b" (;) mail.bravo.example;"),
    _results("another id in a comment", b" (mx.evil.example;) mail.bravo.example;"),
    _results("comment that ends nowhere", b" (mail.bravo.example;"),
    _results("comment in the id", b" mail.(x)bravo.example;"),
    _results("version", b" mail.bravo.example 1;"),
    _results("version and comments", b" mail.bravo.example (x) 1 (y);"),
    _results("quoted", b' "mail.bravo.example";'),
    _results("quoted pairs", b' "mail.\\bravo.example" 1;'),
    _results("quotes that end nowhere", b' "mail.bravo.example;'),
    _results("folded before the id", b"\r\n\tmail.bravo.example;"),
    _results("folded many times", b"\r\n \r\n mail.bravo.example\r\n\t1\r\n ;\r\n"),
    _results("folded in the id", b" mail.\r\n bravo.example;"),
    _results("final dot", b" mail.bravo.example.;"),
    _results("encoded", b" =?utf-8?q?mail.bravo.example?=;"),
    _results("with octets around", b" \xffmail.bravo.example\xff;"),
    _results("control characters around", b" \x01mail.bravo.example\x7f;"),
    _results("bare CR before the id", b" \rmail.bravo.example;"),
    _results("no semicolon", b" mail.bravo.example"),
    _results("as the second id", b" mx.evil.example mail.bravo.example;"),
    _results("the domain as the id", b" bravo.example;"),
    _results("another id", b" mx.evil.example;"),
    _results("another id, ours in a result", b" mx.evil.example; none; mail.bravo.example;"),
    _results("of the name of ARC's", b" i=1; mail.bravo.example;", b"ARC-Authentication-Results:"),
    _results("of a name like it", b" mail.bravo.example;", b"X-Authentication-Results:"),
    Attack(
        "results: without dkim=",
        DELIVERED,
        b"Authentication-Results: mail.bravo.example; dmarc=pass header.from=bank.example\r\n" + FROM_EVIL,
    ),
    Attack(
        "results: SPF's alone",
        DELIVERED,
        b"Authentication-Results: mail.bravo.example; spf=pass smtp.mailfrom=admin@bank.example\r\n" + FROM_EVIL,
    ),
    Attack(
        "results: a hundred",
        DELIVERED,
        b"".join(b"Authentication-Results: mail.bravo.example;" + _CLAIM for _ in range(100)) + FROM_EVIL,
    ),
    Attack(
        "results: between others",
        DELIVERED,
        b"".join(
            b"Authentication-Results: " + one + b";" + _CLAIM
            for one in (b"mx.evil.example", b"mail.bravo.example", b"x.example", b"mail.bravo.example")
        )
        + FROM_EVIL,
    ),
    Attack(
        "results: below everything else",
        DELIVERED,
        FROM_EVIL
        + b"Received: from x by mail.bravo.example; Wed, 25 Nov 2026 12:00:00 +0000\r\nAuthentication-Results: mail.bravo.example;"
        + _CLAIM,
    ),
    Attack(
        "results: behind a line of 200 kB",
        LONG,
        FROM_EVIL + b"X: " + b"x" * 200_000 + b"\r\nAuthentication-Results: mail.bravo.example;" + _CLAIM,
    ),
    Attack("results: the bank's From too", FAILS, b"Authentication-Results: mail.bravo.example;" + _CLAIM + FROM_BANK),
    Attack(
        "results: behind the empty line",
        DELIVERED,
        FROM_EVIL,
        body=b"Authentication-Results: mail.bravo.example;" + _CLAIM,
    ),
    Attack(
        "results: in a fold of another field",
        DELIVERED,
        FROM_EVIL + b"X-Field: x\r\n Authentication-Results: mail.bravo.example;" + _CLAIM,
    ),
    Attack(
        "results: bare CR before the field",
        DELIVERED,
        FROM_EVIL + b"X-Field: x\rAuthentication-Results: mail.bravo.example;" + _CLAIM,
    ),
    Attack(
        "results: local From with ours",
        FORGED,
        b"Authentication-Results: mail.bravo.example; dkim=pass header.d=bravo.example; dmarc=pass header.from=bravo.example\r\nFrom: <ceo@bravo.example>\r\n",
        victim=LOCAL,
    ),
)

_RECEIVED = f' pass (mail.bravo.example: domain of admin@bank.example designates {EDGE[7]} as permitted sender) identity=mailfrom; client-ip={EDGE[7]}; envelope-from="admin@bank.example"; helo=bank.example; receiver=mail.bravo.example\r\n'.encode()


def _received_spf(name: str, fields: bytes) -> Attack:
    return Attack(f"Received-SPF: {name}", DELIVERED, fields + FROM_EVIL)


RECEIVED_SPF = (
    _received_spf("plain", b"Received-SPF:" + _RECEIVED),
    _received_spf("odd case", b"RECEIVED-spf:" + _RECEIVED),
    _received_spf("a space before the colon", b"Received-SPF :" + _RECEIVED),
    _received_spf("folded", b"Received-SPF:\r\n" + _RECEIVED),
    _received_spf("many", (b"Received-SPF:" + _RECEIVED) * 50),
    _received_spf(
        "between fields of delivery",
        b"Return-Path: <admin@bank.example>\r\nReceived-SPF:"
        + _RECEIVED
        + f"Received: from bank.example (bank.example [{BANK_ADDRESS}]) by mail.bravo.example; Wed, 25 Nov 2026 12:00:00 +0000\r\n".encode(),
    ),
    Attack("Received-SPF: the bank's From too", FAILS, b"Received-SPF:" + _RECEIVED + FROM_BANK),
)


def _signed(name: str, signature: Signature, outcome: str = FAILS, **others: Any) -> Attack:
    return Attack(f"DKIM: {name}", outcome, signed=signature, **others)


# Signatures that pass for somebody else, or for nobody.
SIGNATURES = (
    _signed("of evil", Signature(b"evil.example")),
    _signed("of the bank, by evil's key", Signature(b"bank.example")),
    _signed("selector that names evil's key", Signature(b"bank.example", b"selector._domainkey.evil.example")),
    Attack("DKIM: NUL in the domain", NUL, signed=Signature(b"bank.example\x00.evil.example")),
    _signed("parenthesis in the domain", Signature(b"bank.example(.evil.example")),
    _signed("parentheses in the domain", Signature(b"bank.example(.evil.example)")),
    _signed("double quote in the domain", Signature(b'bank.example".evil.example')),
    _signed("comma in the domain", Signature(b"bank.example,.evil.example")),
    _signed("backslash in the domain", Signature(b"bank.example\\.evil.example")),
    _signed("space in the domain", Signature(b"bank.example .evil.example")),
    _signed("octets in the domain", Signature(b"bank.example\xff.evil.example")),
    _signed("the bank's domain as a sub-domain", Signature(b"bank.example.evil.example")),
    _signed("the bank's public suffix", Signature(b"example")),
    _signed("i= of the bank at evil", Signature(b"evil.example", identity=b"admin@bank.example@evil.example")),
    _signed(
        "injection by i=",
        Signature(
            b"evil.example",
            identity=b"x=20header.s=3Dx=3B=20dkim=3Dpass=20header.d=3Dbank.example=20header.i=3D@evil.example",
        ),
        DELIVERED,
        fields=FROM_EVIL,
    ),
    _signed(
        "line end by i=",
        Signature(
            b"evil.example",
            identity=b"x=0D=0AAuthentication-Results:=20mail.bravo.example=3B=20dkim=3Dpass=20header.d=3Dbank.example@evil.example",
        ),
        DELIVERED,
        fields=FROM_EVIL,
    ),
    _signed(
        "injection by the selector", Signature(b"evil.example", b"x header.d=bank.example"), DELIVERED, fields=FROM_EVIL
    ),
    Attack(
        "DKIM: garbage for the bank above a good one",
        FAILS,
        above=b"DKIM-Signature: v=1; a=rsa-sha256; d=bank.example; s=selector; h=from; bh=AAAA; b=AAAA\r\n",
        signed=Signature(b"evil.example"),
    ),
    Attack(
        "DKIM: the bank's own, a second From above",
        AMBIGUOUS,
        above=b"From: <any@evil.example>\r\n",
        signed=Signature(b"bank.example", key="bank"),
    ),
    Attack(
        "DKIM: the bank's own, another From above it",
        AMBIGUOUS,
        FROM_BANK,
        above=b"From: <ceo@bank.example>\r\n",
        signed=Signature(b"bank.example", key="bank"),
    ),
    _signed(
        "the bank's own, with l=, the body goes on",
        Signature(b"bank.example", key="bank", length=True),
        below=b"More.\r\n",
    ),
    _signed("the bank's own, the body changed", Signature(b"bank.example", key="bank"), below=b"More.\r\n"),
    _signed("the bank's own, rsa-sha1", Signature(b"bank.example", key="bank", algorithm=b"rsa-sha1")),
)

BAIT = b"dkim=pass header.d=bank.example"


def _injection(name: str, **octets: bytes) -> Attack:
    return Attack(f"injection: {name}", DELIVERED, FROM_EVIL, **octets)  # type: ignore[arg-type]


# What the envelope holds stands in results and trace fields.
INJECTION = (
    _injection("sender, out of a comment", sender=b'<"a); ' + BAIT + b' ("@evil.example>'),
    _injection("sender, out of a quoted string", sender=b'<"a\\"; ' + BAIT + b'; x=\\""@evil.example>'),
    _injection("sender, quoted pairs", sender=b'<"a\\); ' + BAIT + b' \\("@evil.example>'),
    _injection("sender, a field", sender=b'<"Authentication-Results: mail.bravo.example; ' + BAIT + b'"@evil.example>'),
    _injection(
        "sender, a bare CR and a field",
        sender=b'<"a\rAuthentication-Results: mail.bravo.example; ' + BAIT + b'"@evil.example>',
    ),
    _injection(
        "sender, an encoded word", sender=b'<"=?utf-8?q?a);_dkim=3Dpass_header.d=3Dbank.example_(?="@evil.example>'
    ),
    _injection("sender, octets", sender=b'<"\xff); ' + BAIT + b' ("@evil.example>'),
    _injection("sender, a comment", sender=b"<a(; " + BAIT + b")@evil.example>"),
    _injection("sender, a route", sender=b'<@"a; ' + BAIT + b'",@b.example:a@evil.example>'),
    _injection("sender, long", sender=b'<"' + b"); " * 100 + BAIT + b' ("@evil.example>'),
    _injection("HELO, out of a comment", helo=b"x); " + BAIT + b" (y"),
    _injection("HELO, out of a quoted string", helo=b'"; ' + BAIT + b'; x="'),
    _injection("HELO, a field", helo=b"Authentication-Results: mail.bravo.example; " + BAIT),
    _injection("HELO, a bare CR and a field", helo=b"x\rAuthentication-Results: mail.bravo.example; " + BAIT),
    _injection("HELO, octets", helo=b"\xff); " + BAIT + b" (\xff"),
    _injection("HELO, a comment", helo=b"(; " + BAIT + b")"),
    _injection("HELO, a final backslash", helo=b"x; " + BAIT + b" \\"),
    _injection("HELO, long", helo=b"x" * 1500 + b"); " + BAIT),
    _injection("recipient, out of a comment", recipient=b'<"user+a); ' + BAIT + b' ("@bravo.example>'),
    _injection("recipient, out of a quoted string", recipient=b'<"user+\\"; ' + BAIT + b'; x=\\""@bravo.example>'),
    _injection(
        "recipient, a bare CR and a field",
        recipient=b'<"user+\rAuthentication-Results: mail.bravo.example; ' + BAIT + b'"@bravo.example>',
    ),
    _injection("recipient, octets", recipient=b'<"user+\xff); ' + BAIT + b' ("@bravo.example>'),
    _injection(
        "all of them",
        helo=b"x); " + BAIT + b" (",
        sender=b'<"a); ' + BAIT + b' ("@evil.example>',
        recipient=b'<"user+a); ' + BAIT + b' ("@bravo.example>',
    ),
    Attack(
        "injection: HELO, null sender", DELIVERED, FROM_EVIL, helo=b"mx.evil.example); " + BAIT + b" (", sender=b"<>"
    ),
)


def _local(name: str, outcome: str, fields: bytes, **others: Any) -> Attack:
    return Attack(f"local: {name}", outcome, fields, victim=LOCAL, **others)


# The receiving site as its own victim.
LOCAL_DOMAIN = (
    _local("From", FORGED, b"From: <ceo@bravo.example>\r\n"),
    _local("From in odd case", FORGED, b"From: <ceo@BRAVO.Example>\r\n"),
    _local("From of the recipient", FORGED, b"From: <user@bravo.example>\r\n"),
    _local("From of the host", FORGED, b"From: <postmaster@mail.bravo.example>\r\n"),
    _local("From below the domain", FORGED, b"From: <ceo@sub.bravo.example>\r\n"),
    _local("From below the domain, not there", FORGED, b"From: <ceo@no.such.bravo.example>\r\n"),
    _local("sender", FORGED, FROM_EVIL, sender=b"<user@bravo.example>"),
    _local("sender and From", FORGED, b"From: <user@bravo.example>\r\n", sender=b"<user@bravo.example>"),
    _local("sender behind a route", FORGED, FROM_EVIL, sender=b"<@evil.example:user@bravo.example>"),
    _local(
        "null sender and HELO",
        FORGED,
        b"From: <postmaster@bravo.example>\r\n",
        sender=b"<>",
        helo=b"mail.bravo.example",
    ),
    _local("null sender and evil's HELO", FORGED, b"From: <postmaster@bravo.example>\r\n", sender=b"<>"),
    _local("signed by evil", FORGED, b"From: <ceo@bravo.example>\r\n", signed=Signature(b"evil.example")),
    _local("signed for us by evil's key", FORGED, b"From: <ceo@bravo.example>\r\n", signed=Signature(b"bravo.example")),
    _local("final dot", FORGED, b"From: <ceo@bravo.example.>\r\n"),
    _local("two addresses", AMBIGUOUS, b"From: <any@evil.example>, <ceo@bravo.example>\r\n"),
    _local("full-width letters", FORGED, "From: <ceo@\uff42ravo.example>\r\n".encode()),
    _local("quoted name", DELIVERED, b'From: "ceo@bravo.example" <any@evil.example>\r\n'),
    _local(
        "Sender and Reply-To",
        DELIVERED,
        FROM_EVIL + b"Sender: <ceo@bravo.example>\r\nReply-To: <ceo@bravo.example>\r\n",
    ),
    _local("relay to elsewhere", "554 5.7.1", FROM_EVIL, recipient=b"<user@alpha.example>"),
    _local("relay by a route", "554 5.7.1", FROM_EVIL, recipient=b"<@bravo.example:user@alpha.example>"),
    _local("relay by percent", "554 5.7.1", FROM_EVIL, recipient=b"<user%alpha.example@bravo.example>"),
)

# Line ends that some take for CR LF, before and behind the dot.
LINE_ENDS = {
    "CRLF": b"\r\n",
    "LF": b"\n",
    "CR": b"\r",
    "LF CR": b"\n\r",
    "CR NUL LF": b"\r\0\n",
    "CRLF NUL": b"\r\n\0",
    "NUL CRLF": b"\0\r\n",
    "CR CRLF": b"\r\r\n",
}
END = b"\r\n.\r\n"
_LINE_FEED_ALONE = re.compile(rb"(?<!\r)\n")


def _smuggling(way: Way) -> Iterator[Attack]:
    """A second message behind what only some take for the end of the first one."""
    domain, victim = (EVIL, BANK) if way == "outside" else (CUSTOMER, NEIGHBOUR)
    for (before, start), (behind, stop) in itertools.product(LINE_ENDS.items(), repeat=2):
        end = start + b"." + stop
        if END in end:
            continue
        inner = (
            f"MAIL FROM:<admin@{victim}>\r\nRCPT TO:<user@bravo.example>\r\nDATA\r\nFrom: <admin@{victim}>\r\nSubject: {{row}}\r\n\r\n{{row}}\r\n"
        ).encode()
        outcome = LINE_FEED if _LINE_FEED_ALONE.search(end) else NUL if b"\0" in end else DELIVERED
        yield Attack(
            f"smuggling, {way}: {before}, dot, {behind}",
            outcome,
            f"From: <user@{domain}>\r\n".encode(),
            victim=victim,
            way=way,
            sender=f"<user@{domain}>".encode(),
            body=b"text" + end + inner,
        )


_HELLO = (b"EHLO mx.evil.example\r\n", b"MAIL FROM:<any@evil.example>\r\n", b"RCPT TO:<user@bravo.example>\r\n")
_MESSAGE = FROM_BANK + REST + b"\r\nA body.\r\n"
_HARMLESS = FROM_EVIL + REST + b"\r\nA body.\r\n"
_FIRST = _HARMLESS.replace(b"{row}", b"harmless")
_SECOND = b"MAIL FROM:<admin@bank.example>\r\nRCPT TO:<user@bravo.example>\r\nDATA\r\n" + _MESSAGE + b".\r\nQUIT\r\n"


def _chunk(octets: bytes, last: bytes = b" LAST") -> bytes:
    return b"BDAT %d%s\r\n" % (len(octets.replace(b"{row}", b"row-0000")), last) + octets


_HTTP = b"".join(
    [
        b"POST / HTTP/1.1\r\nHost: mail.bravo.example\r\nContent-Length: 1000\r\n\r\n",
        *_HELLO,
        b"DATA\r\n",
        _MESSAGE,
        b".\r\n",
    ]
)

# Commands that come before their time, and chunks (RFC 3030).
PIPELINING = (
    Attack(
        "pipelining: all before the greeting",
        "554 5.5.0",
        early=True,
        pieces=(b"".join(_HELLO) + b"DATA\r\n" + _MESSAGE + b".\r\n",),
    ),
    Attack("pipelining: all behind EHLO", "554 5.5.0", pieces=(b"".join(_HELLO) + b"DATA\r\n" + _MESSAGE + b".\r\n",)),
    Attack("pipelining: all behind HELO", "554 5.5.0", pieces=(b"HELO mx.evil.example\r\n" + b"".join(_HELLO[1:]),)),
    Attack("pipelining: the message behind DATA", "554 5.5.0", pieces=(*_HELLO, b"DATA\r\n" + _MESSAGE + b".\r\n")),
    Attack(
        "pipelining: a second transaction behind the first",
        "554 5.5.0",
        pieces=(*_HELLO, b"DATA\r\n", _FIRST + b".\r\n" + _SECOND),
    ),
    Attack(
        "pipelining: a second message after the first",
        FAILS,
        pieces=(*_HELLO, b"DATA\r\n", _FIRST + b".\r\n", _HELLO[1], _HELLO[2], b"DATA\r\n", _MESSAGE + b".\r\n"),
    ),
    Attack(
        "pipelining: a request of HTTP",
        # By what comes first, its first line or Postfix's greeting.
        ("554 5.5.0", "221 2.7.0 Error"),
        early=True,
        pieces=(_HTTP,),
    ),
    Attack("pipelining: a request of HTTP behind the greeting", "221 2.7.0 Error", pieces=(_HTTP,)),
    Attack(
        "pipelining: behind STARTTLS",
        "220 2.0.0 Ready to start TLS",
        pieces=(_HELLO[0], b"STARTTLS\r\n" + b"".join(_HELLO[1:]) + b"DATA\r\n" + _MESSAGE + b".\r\n"),
    ),
    Attack("chunks: the bank's From", FAILS, pieces=(*_HELLO, _chunk(_MESSAGE))),
    Attack("chunks: two From fields in two", AMBIGUOUS, pieces=(*_HELLO, _chunk(FROM_EVIL, b""), _chunk(_MESSAGE))),
    Attack(
        "chunks: one From field in two",
        FAILS,
        pieces=(*_HELLO, _chunk(b"From: <admin@ba", b""), _chunk(b"nk.example>\r\n" + REST + b"\r\nA body.\r\n")),
    ),
    Attack("chunks: end of data in one", DELIVERED, pieces=(*_HELLO, _chunk(_HARMLESS + b".\r\n" + _SECOND))),
    Attack("chunks: bare LF", LINE_FEED, pieces=(*_HELLO, _chunk(_HARMLESS + b"\n.\r\n" + _SECOND))),
    Attack("chunks: NUL", NUL, pieces=(*_HELLO, _chunk(_HARMLESS + b"\0\r\n.\r\n" + _SECOND))),
    Attack("chunks: empty", AMBIGUOUS, pieces=(*_HELLO, b"BDAT 0 LAST\r\n")),
    Attack("chunks: negative length", "521 5.5.4", pieces=(*_HELLO, b"BDAT -1 LAST\r\n")),
    Attack("chunks: length out of range", "521 5.5.4", pieces=(*_HELLO, b"BDAT 99999999999999999999 LAST\r\n")),
    Attack("chunks: before RCPT", "554 5.5.1", pieces=(*_HELLO[:2], _chunk(_MESSAGE))),
    Attack("chunks: DATA behind one", "503 5.5.1", pieces=(*_HELLO, _chunk(FROM_EVIL, b""), b"DATA\r\n")),
    Attack(
        "chunks: end of data in one, through alpha",
        DELIVERED,
        victim=NEIGHBOUR,
        way="relay",
        pieces=(
            _HELLO[0],
            b"MAIL FROM:<user@alpha.example>\r\n",
            _HELLO[2],
            _chunk(
                b"From: <user@alpha.example>\r\n"
                + REST
                + b"\r\ntext\r\n.\r\n"
                + _SECOND.replace(BANK.encode(), NEIGHBOUR.encode())
            ),
        ),
    ),
    Attack(
        "chunks: bare LF, through alpha",
        LINE_FEED,
        victim=NEIGHBOUR,
        way="relay",
        pieces=(
            _HELLO[0],
            b"MAIL FROM:<user@alpha.example>\r\n",
            _HELLO[2],
            _chunk(
                b"From: <user@alpha.example>\r\n"
                + REST
                + b"\r\ntext\n.\r\n"
                + _SECOND.replace(BANK.encode(), NEIGHBOUR.encode())
            ),
        ),
    ),
)

# What alpha signs is believed by others: nothing ambiguous may get that far.
OUTBOUND = tuple(
    Attack(
        f"through alpha: {one.name}",
        "550 5.6.0",
        one.fields.replace(EVIL.encode(), CUSTOMER.encode()),
        way="relay",
        sender=b"<user@alpha.example>",
    )
    for one in (*AUTHOR, *FIELDS)
    if one.outcome == AMBIGUOUS and one.sender != b"<>"
)

ATTACKS = (
    *CASES_OF_ESPOOFER,
    *ENVELOPE,
    *AUTHOR,
    *FIELDS,
    *RESULTS,
    *RECEIVED_SPF,
    *SIGNATURES,
    *INJECTION,
    *LOCAL_DOMAIN,
    *_smuggling("outside"),
    *_smuggling("relay"),
    *PIPELINING,
    *OUTBOUND,
)
