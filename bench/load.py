"""What is sent: messages of 4 kB from domains that publish SPF, DKIM and DMARC, in three loads."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import dkim
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bench.images import RECIPIENT_DOMAIN, SENDERS, SENDERS_NETWORK
from mailstack.world.nameserver import Nameserver

RECIPIENT = f"user@{RECIPIENT_DOMAIN}"
MESSAGE_OCTETS = 4096
DIRECTORY = "/load"

_SELECTOR = "s1"
_KEY_BITS = 2048
_MIXED = 200
_PROVIDER = "_spf.provider.example"
_HOSTS = "out.provider.example"
_SENDS = f"v=spf1 ip4:{SENDERS_NETWORK} -all"
# What domains publish: their addresses, a provider's record, or their hosts by name.
_SPF = (_SENDS, f"v=spf1 include:{_PROVIDER} -all", f"v=spf1 mx a:{_HOSTS} -all")


@dataclass(frozen=True)
class Load:
    """Domains by rank; of several, the n-th sends in proportion to 1/n."""

    name: str
    domains: tuple[str, ...]
    signed: bool


UNSIGNED = Load("unsigned", ("unsigned.example",), signed=False)
SIGNED = Load("signed", ("signed.example",), signed=True)
ZIPF = Load("zipf", tuple(f"mixed{rank}.example" for rank in range(1, _MIXED + 1)), signed=True)
LOADS: Mapping[str, Load] = {load.name: load for load in (UNSIGNED, SIGNED, ZIPF)}


def helo(at: int) -> str:
    """The name of the n-th sending host."""
    return f"sender{at + 1}.example"


def prepare(directory: Path, names: Nameserver, *, tls: bool) -> None:
    """Publish the senders' records and write their messages, signed once, and a plan for each sending host."""
    # One key for all domains: each has a record of its own to be looked up, and a verifier parses a key each time.
    key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    for name, kind, *values in _records(key.public_key()):
        names.set(name, kind, *values)
    names.publish()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    directory.mkdir()
    plan: dict[str, list[tuple[str, str]]] = {}
    for load in LOADS.values():
        plan[load.name] = []
        for domain in load.domains:
            content = message(domain)
            if load.signed:
                content = sign(content, domain, private)
            (directory / f"{domain}.eml").write_bytes(content)
            plan[load.name].append((f"user@{domain}", f"{DIRECTORY}/{domain}.eml"))
    for at in range(len(SENDERS)):
        whole = {"port": 25, "tls": tls, "helo": helo(at), "recipient": RECIPIENT, "loads": plan}
        (directory / f"{helo(at)}.json").write_text(json.dumps(whole))


def message(domain: str) -> bytes:
    """A message of MESSAGE_OCTETS with CRLF line ends; no line begins with a dot."""
    header = (
        f"From: User <user@{domain}>\r\nTo: {RECIPIENT}\r\nSubject: A message of four kilobytes\r\n"
        f"Date: Wed, 25 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@{domain}>\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
    ).encode()
    line = b"What is written here does not matter to those who only pass it on.\r\n"
    body = line * (MESSAGE_OCTETS // len(line))
    return header + body[: MESSAGE_OCTETS - len(header) - 2] + b"\r\n"


def sign(content: bytes, domain: str, private: bytes) -> bytes:
    """The message with a DKIM signature of its author's domain."""
    relaxed = (b"relaxed", b"simple")
    signature = dkim.sign(content, _SELECTOR.encode(), domain.encode(), private, canonicalize=relaxed)
    return bytes(signature) + content


def _records(key: rsa.RSAPublicKey) -> Iterator[tuple[str, ...]]:
    """Name, type and values of every record set, values as in a zone file."""
    yield _HOSTS, "A", *map(str, SENDERS)
    for at, address in enumerate(SENDERS):
        yield helo(at), "A", str(address)
        yield helo(at), "TXT", '"v=spf1 a -all"'
    yield _PROVIDER, "TXT", f'"v=spf1 ip4:192.0.2.0/24 ip4:{SENDERS_NETWORK} -all"'
    dkim_record = f"v=DKIM1; k=rsa; p={_public(key)}"
    for load in LOADS.values():
        for at, domain in enumerate(load.domains):
            host = f"mail.{domain}"
            yield domain, "MX", f"10 {host}."
            yield host, "A", "192.0.2.1"
            yield domain, "TXT", f'"{_SPF[at % len(_SPF)]}"'
            yield f"{_SELECTOR}._domainkey.{domain}", "TXT", f'"{dkim_record[:255]}" "{dkim_record[255:]}"'
            yield f"_dmarc.{domain}", "TXT", '"v=DMARC1; p=reject"'


def _public(key: rsa.RSAPublicKey) -> str:
    """A SubjectPublicKeyInfo in base64 (RFC 6376 section 3.6.1)."""
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return "".join(pem.decode().splitlines()[1:-1])
