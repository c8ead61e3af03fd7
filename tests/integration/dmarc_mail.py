"""What the DMARC tests are made of: domains to publish, a message to send, and all that must be seen of its verdict."""

import base64
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import dkim
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from mailstack.dns.formats import rdata
from mailstack.dns.records import Record
from mailstack.world.containers import Machine, wait_for
from mailstack.world.nameserver import Nameserver
from mailstack.world.site import Site, parse
from support import (
    JUNK,
    Reply,
    address_of,
    as_sent,
    message,
    properties,
    raw_results,
    results,
    send,
    subject,
    subject_of,
    verdicts,
)

SELECTORS = ("rsa", "ed25519")
# So many messages are sent at a time.
_AT_A_TIME = 8


class Keys:
    """One key pair of each kind, which all domains of the tests share."""

    def __init__(self) -> None:
        rsa_key, ed25519_key = rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate()
        self.pem = rsa_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        self.seed = base64.b64encode(ed25519_key.private_bytes_raw())
        public = rsa_key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.records = {
            "rsa": f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode()}",
            "ed25519": f"v=DKIM1; k=ed25519; p={base64.b64encode(ed25519_key.public_key().public_bytes_raw()).decode()}",
        }


class Domain:
    """A domain that exists, with DKIM keys, an SPF record ("": none) and what is at _dmarc.

    More than one string in a DMARC record are the character-strings of one.
    """

    def __init__(self, *dmarc: str | tuple[str, ...], spf: str = "") -> None:
        self.dmarc = [(one,) if isinstance(one, str) else one for one in dmarc]
        self.spf = spf


def publish(names: Nameserver, domains: Mapping[str, Domain], keys: Keys, address: str) -> None:
    """Put domains into the world's zone; the caller calls names.publish()."""
    for name, domain in domains.items():
        names.set(name, "A", address)
        if domain.spf:
            names.set(name, "TXT", f'"{domain.spf}"')
        if domain.dmarc:
            names.set(f"_dmarc.{name}", "TXT", *(" ".join(f'"{text}"' for text in one) for one in domain.dmarc))
        for selector in SELECTORS:
            names.set(f"{selector}._domainkey.{name}", "TXT", txt(keys.records[selector]))


def txt(value: str) -> str:
    """A TXT value as a zone file has it."""
    return rdata(Record(name="", type="TXT", value=value, domain="", widest="", why="")).to_text()


@dataclass(frozen=True)
class Signature:
    """A DKIM signature on a message: whose it is, what was done with it, and the result that must be seen of it."""

    domain: str
    result: str = "pass"
    done: str = ""


def by(domain: str) -> Signature:
    """A good signature by RSA."""
    return Signature(domain)


def by_ed25519(domain: str) -> Signature:
    """A good signature by Ed25519 (RFC 8463)."""
    return Signature(domain, done="ed25519")


def altered(domain: str) -> Signature:
    """A signature of another body."""
    return Signature(domain, "fail", "altered")


def whole(domain: str) -> Signature:
    """A good signature with an l= that is the whole body's length."""
    return Signature(domain, done="with l=")


def without_key(domain: str) -> Signature:
    """A signature whose key is not published."""
    return Signature(domain, "fail", "without key")


def garbage(kind: str, domain: str) -> Signature:
    """What stands where a signature of this domain would, and is none; one of GARBAGE."""
    return Signature(domain, "", kind)


def _tag(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    return rb"(?<=[ ;])" + name + rb"=[^;]*", name + b"=" + value


# What is made of a good signature, by a regular expression and what comes in its place.
GARBAGE: Mapping[str, tuple[bytes, bytes]] = {
    "nothing": (rb"(?s)(?<=:).*", b""),
    "unparsable": (rb"(?s)(?<=:).*", b" this is no list of tags"),
    "octets beyond ASCII": (rb"(?s)(?<=:).*", b" v=1; a=\xff\xfe\x80; d=\xc3\x28; s=\x80"),
    "no d=": (rb"(?<=[ ;])d=[^;]*;", b""),
    "no s=": (rb"(?<=[ ;])s=[^;]*;", b""),
    "no h=": (rb"(?<=[ ;])h=[^;]*;", b""),
    "no b=": (rb"(?<=[ ;])b=[^;]*", b""),
    "an empty b=": _tag(b"b", b""),
    "bad base64 in b=": _tag(b"b", b"%%%% no base64 !!!!"),
    "bad base64 in bh=": _tag(b"bh", b"%%%%"),
    "an unknown algorithm": _tag(b"a", b"rsa-whirlpool"),
    "an algorithm that is none any more": _tag(b"a", b"rsa-sha1"),
    "another version": _tag(b"v", b"2"),
    "an unknown canonicalisation": _tag(b"c", b"odd/odd"),
    "a domain that is no name": _tag(b"d", b"..example"),
    "a selector that is no name": _tag(b"s", b"a..b"),
    # 262 octets, more than OpenDKIM has room for, and than a name in DNS may have.
    "a long name": _tag(b"s", b".".join([b"a" * 60] * 4)),
    "an odd i=": _tag(b"i", b"x=3By@reject.example"),
    "d= twice": (rb"(?<=[ ;])d=([^;]*);", rb"d=\1; d=\1;"),
    "From is not signed": _tag(b"h", b"subject"),
    "it is over": _tag(b"t", b"1000000000; x=1000000001"),
    "absurdly long": (rb"(?<=[ ;])b=", b"x1=" + b"\r\n ".join([b"y" * 900] * 30) + b"; b="),
}


def sign(signature: Signature, content: bytes, keys: Keys) -> bytes:
    """A signature as the field that it is."""
    by_rsa = signature.done != "ed25519"
    signed = bytes(
        dkim.sign(
            content.replace(b"A body.", b"Another body.") if signature.done == "altered" else content,
            b"nowhere" if signature.done == "without key" else b"rsa" if by_rsa else b"ed25519",
            signature.domain.encode(),
            keys.pem if by_rsa else keys.seed,
            canonicalize=(b"relaxed", b"simple"),
            signature_algorithm=b"rsa-sha256" if by_rsa else b"ed25519-sha256",
            length=signature.done == "with l=",
        )
    )
    if signature.done not in GARBAGE:
        return signed
    pattern, replacement = GARBAGE[signature.done]
    field, changes = re.subn(pattern, replacement, signed.removesuffix(b"\r\n").replace(b"\r\n", b""), count=1)
    assert changes
    return field + b"\r\n"


REPLIES = {
    "refused": "5.7.26 DMARC: rejected by policy of {author} (neither SPF nor DKIM passes with an aligned domain)",
    "refused by SPF": "5.7.23 SPF fail: {client} is not authorized to send for {spf}",
}
# "put aside": p=reject, where another domain passes.
_DISPOSITIONS = {"quarantined": "quarantine", "put aside": "quarantine", "refused": "reject"}
_ACTIONS = {"quarantined": "quarantine", "put aside": "quarantine", "refused": "reject", "refused by SPF": "reject"}

Then = Literal["delivered", "quarantined", "put aside", "refused", "refused by SPF"]


@dataclass(frozen=True)
class Mail:
    """A message from outside, and what a stack must make of it."""

    # The domain in From.
    author: str
    # The domain in MAIL FROM; "" is the null sender. By default one that has no SPF record.
    sender: str = "none.example"
    helo: str = "outsider.example"
    signed: Sequence[Signature] = ()
    extra: Sequence[str] = ()
    # The whole From field, where it is more than an address of the author's domain.
    from_field: str = ""
    # The fixture of the machine that it comes from.
    host: str = "outsider"

    # SPF's result for MAIL FROM, or HELO if there is none; "none" for the sender above, else "pass", if it is not said.
    spf: str = ""
    dmarc: str = "none"
    # "spf", "dkim" or both: what the author domain is aligned with.
    aligned: str = ""
    # The domain whose record applies, and the policy that it has for the author domain; None: there is none.
    under: tuple[str, str] | None = None
    # What is left of it in test mode.
    tested: str = ""
    override: str | None = None
    then: Then = "delivered"
    # How the author domain is written in headers and replies, if not in lower case.
    known_as: str = ""

    @property
    def author_domain(self) -> str:
        return self.known_as or self.author.lower()

    @property
    def spf_result(self) -> str:
        return self.spf or ("none" if self.sender == "none.example" else "pass")

    @property
    def asked(self) -> str | None:
        """What DMARC asks for, after test mode."""
        return self.tested or (self.under[1] if self.under else None)

    @property
    def disposition(self) -> str:
        return _DISPOSITIONS.get(self.then, "none")


@dataclass(frozen=True)
class Came:
    """What came of a message: the reply, the verdicts on record, and the copies in the inbox and in Junk."""

    reply: Reply
    verdicts: Sequence[Mapping[str, Any]]
    inbox: Sequence[bytes]
    junk: Sequence[bytes]


def send_all(mails: Mapping[str, Mail], machine: Machine, site: Site, keys: Keys) -> dict[str, Came]:
    """Send messages over several connections at once, and look once when nothing is under way any more."""
    recipient = f"user@{site.stack.domains[0]}"

    def send_one(mail: Mail) -> tuple[bytes, Reply]:
        content = message(
            mail.from_field or f"someone@{mail.author}",
            recipient,
            subject(f"{mail.author} {mail.dmarc}"),
            extra=mail.extra,
        )
        content = b"".join(sign(one, content, keys) for one in mail.signed) + content
        sender = f"someone@{mail.sender}" if mail.sender else ""
        return content, send(machine, address_of(site), sender, recipient, content, helo=mail.helo)

    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        sent = dict(zip(mails, pool.map(send_one, mails.values()), strict=True))
    ids = {name: parse(content)["Message-ID"] for name, (content, _) in sent.items()}
    wait_for(
        lambda: set(ids.values()) <= {one["message_id"] for one in verdicts(site)}, "not every verdict is on record"
    )
    wait_for(lambda: recipient.encode() not in site.run("postfix", "postqueue", "-j"), "mail stays in the queue")
    said, inbox, junk = verdicts(site), site.mail(recipient), site.mail(recipient, JUNK)
    return {
        name: Came(
            sent[name][1],
            [one for one in said if one["message_id"] == ids[name]],
            *([one for one in folder if subject_of(one) == subject_of(sent[name][0])] for folder in (inbox, junk)),
        )
        for name in mails
    }


def assert_judged(mail: Mail, came: Came, machine: Machine, site: Site, names: Nameserver) -> None:
    """The reply, the verdict on record and the copy that is delivered, or that there is none."""
    expected = REPLIES.get(mail.then, "2.0.0 Ok").format(
        author=mail.author_domain,
        client=machine.address,
        spf=f"MAIL FROM {mail.sender}" if mail.sender else f"HELO {mail.helo}",
    )
    assert came.reply.code == (550 if mail.then in REPLIES else 250), came.reply
    assert came.reply.text.startswith(expected), came.reply
    (verdict,) = came.verdicts
    assert_recorded(mail, verdict, str(machine.address))
    if mail.then in REPLIES:
        assert (came.inbox, came.junk) == ([], [])
    else:
        wanted, other = (came.junk, came.inbox) if mail.disposition == "quarantine" else (came.inbox, came.junk)
        (content,) = wanted
        assert other == []
        assert_written(mail, content, site, verdict, names)


def verdict_of(site: Site, content: bytes) -> dict[str, Any]:
    """Wait for the one line that a site's dmarc service has for a message."""
    wanted = parse(content)["Message-ID"]

    def recorded() -> list[dict[str, Any]]:
        return [one for one in verdicts(site) if one["message_id"] == wanted]

    (verdict,) = wait_for(recorded, f"no verdict of {wanted} on record")
    return verdict


def assert_recorded(mail: Mail, verdict: Mapping[str, Any], client: str) -> None:
    """The line of JSON says what an aggregate report needs (RFC 9990 section 3.1), and what was done."""
    assert verdict["action"] == _ACTIONS.get(mail.then, "accept"), verdict
    assert verdict["result"] == mail.dmarc
    assert verdict["source_ip"] == client
    assert verdict["header_from"] == mail.author_domain
    assert (verdict["policy_published"] or {}).get("domain") == (mail.under[0] if mail.under else None)
    assert verdict["policy_evaluated"] == {
        "disposition": mail.disposition,
        "dkim": "pass" if "dkim" in mail.aligned else "fail",
        "spf": "pass" if "spf" in mail.aligned else "fail",
        "override": "local_policy" if mail.then == "put aside" else mail.override,
    }
    found = verdict["auth_results"]
    assert found["spf"] == {
        "domain": (mail.sender or mail.helo).lower(),
        "scope": "mfrom" if mail.sender else "helo",
        "result": mail.spf_result,
    }
    wanted = [(one.domain.lower(), one.result) for one in mail.signed if one.result]
    passes = [one for one in wanted if one[1] == "pass"]
    seen = [(one["domain"], one["result"]) for one in found["dkim"]]
    # Garbage is on record as far as it can be read, and never as a pass.
    assert [one for one in seen if one[1] == "pass"] == passes
    assert set(wanted) <= set(seen)


def assert_written(mail: Mail, content: bytes, site: Site, verdict: Mapping[str, Any], names: Nameserver) -> None:
    """The one field under our name says the same, and a mailbox server finds its mark where it is to find one."""
    (header,) = results(content, site.stack.hostname)
    spf, *found, dmarc = header.results
    scope = "mailfrom" if mail.sender else "helo"
    assert (spf.method, spf.result, properties(spf)) == (
        "spf",
        mail.spf_result,
        {f"smtp.{scope}": (mail.sender or mail.helo).lower()},
    )

    assert {one.method for one in found} == {"dkim"}
    if mail.signed:
        assert len(found) == len(mail.signed)
    else:
        assert [(one.result, one.properties) for one in found] == [("none", [])]
    for signature, one in zip(mail.signed, found, strict=False):
        if signature.result:
            assert (properties(one)["header.d"], one.result) == (signature.domain.lower(), signature.result)
        else:
            # What would not align, or need not, is not looked at again where OpenDKIM did not get to it.
            unfinished = set() if signature.domain == mail.author and not mail.aligned else {"neutral"}
            assert one.result in {"permerror", "fail"} | unfinished
    on_record = [(one["domain"], one["selector"], one["result"]) for one in verdict["auth_results"]["dkim"]]
    named = [(properties(one), one.result) for one in found if one.properties]
    assert [(one["header.d"], one["header.s"], result) for one, result in named] == on_record
    for at, signature in enumerate(mail.signed):
        if signature.result:
            assert _independent(content, at, names) == (signature.result == "pass")

    assert (dmarc.method, dmarc.result) == ("dmarc", mail.dmarc)
    policy = {"policy.dmarc": mail.asked} if mail.under else {}
    assert properties(dmarc) == {"header.from": mail.author_domain, **policy}
    (text,) = [one for one in raw_results(content) if one.startswith(f"{site.stack.hostname};")]
    written = f"dmarc={mail.dmarc} (p={mail.under[1]} dis={mail.disposition})" if mail.under else f"dmarc={mail.dmarc}"
    assert f"; {written} header.from=" in text

    marks = parse(content).get_all("X-Mailstack-Quarantine", [])
    assert marks == ([f"DMARC policy of {mail.author_domain}"] if mail.then in {"quarantined", "put aside"} else [])


def _independent(content: bytes, at: int, names: Nameserver) -> bool:
    """What dkimpy says of one signature of a delivered message, from the top."""

    def look_up(name: bytes, timeout: int = 5) -> bytes | None:
        return next(iter(names.txt(name.decode())), None)

    try:
        return bool(dkim.DKIM(as_sent(content)).verify(at, dnsfunc=look_up))
    except dkim.DKIMException:
        return False
