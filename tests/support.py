"""What the suites share: messages, an SMTP client that comes from a host of the world, headers read by parsers."""

import base64
import contextlib
import functools
import hashlib
import itertools
import json
import re
import smtplib
import socket
import ssl
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import authres
import dkim
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from dkim.canonicalization import Relaxed

from mailstack.keys import authserv_id
from mailstack.world.containers import Machine, wait_for
from mailstack.world.nameserver import Nameserver
from mailstack.world.site import Site, parse

_COUNT = itertools.count(1)


def subject(about: str) -> str:
    """A subject that no other message has."""
    return f"{about} #{next(_COUNT)}"


def message(author: str, recipient: str, about: str, *, extra: Sequence[str] = (), body: str = "A body.\r\n") -> bytes:
    """A plain message with CRLF line ends."""
    fields = [
        f"From: {author}",
        f"To: {recipient}",
        f"Subject: {about}",
        "Date: Wed, 25 Nov 2026 12:00:00 +0000",
        f"Message-ID: <{next(_COUNT)}@test.example>",
        *extra,
    ]
    return ("\r\n".join(fields) + "\r\n\r\n" + body).encode()


class Client(smtplib.SMTP):
    """An SMTP client whose connection comes from a machine of the world."""

    def __init__(
        self,
        machine: Machine,
        host: str,
        port: int = 25,
        helo: str = "outsider.example",
        tls: ssl.SSLContext | None = None,
        name: str = "",
    ) -> None:
        """With a context the connection is TLS from the start; the certificate must be for the name."""
        self._machine, self._tls, self._name = machine, tls, name
        # A server without DNS takes its time to say so.
        super().__init__(host, port, local_hostname=helo, timeout=120)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        link = self._machine.connect(host, port, timeout)
        return self._tls.wrap_socket(link, server_hostname=self._name) if self._tls else link

    def encrypt(self, tls: ssl.SSLContext, name: str) -> int:
        """STARTTLS with a certificate that is for the name, as starttls() has it for an address; its serial number."""
        self.ehlo_or_helo_if_needed()
        assert self.docmd("STARTTLS")[0] == 220
        assert self.sock
        link = tls.wrap_socket(self.sock, server_hostname=name)
        self.sock, self.file = link, None
        self.ehlo()
        return x509.load_der_x509_certificate(link.getpeercert(binary_form=True) or b"").serial_number

    def __exit__(self, *_: object) -> None:
        # A server that has refused enough may close, or answer 421 to QUIT; what was to be seen has been seen.
        with contextlib.suppress(smtplib.SMTPException):
            self.quit()
        self.close()


@dataclass(frozen=True)
class Reply:
    """An SMTP reply: the code, and the text with its enhanced status code."""

    code: int
    text: str


def send(
    machine: Machine,
    host: str,
    sender: str,
    recipient: str,
    content: bytes,
    *,
    port: int = 25,
    helo: str = "outsider.example",
) -> Reply:
    """One transaction; the first reply that is not positive, or the one to the end of data."""
    with Client(machine, host, port, helo) as client:
        client.ehlo_or_helo_if_needed()
        for command in (lambda: client.mail(sender), lambda: client.rcpt(recipient)):
            code, text = command()
            if code >= 400:
                return Reply(code, text.decode())
        code, text = client.data(content)
        return Reply(code, text.decode())


def address_of(site: Site) -> str:
    """Where other hosts reach a site."""
    return str(site.stack.public_addresses[0])


JUNK = ".Junk"


@functools.cache
def subject_of(content: bytes) -> str:
    """The subject of a message; of each it is read once, since mailboxes are looked at again and again."""
    return str(parse(content)["Subject"])


def delivered(site: Site, mailbox: str, about: str, folder: str = "") -> bytes:
    """Wait for the message with this subject; folder is where it must lie."""

    def arrived() -> bytes | None:
        return next((one for one in site.mail(mailbox, folder) if subject_of(one) == about), None)

    return wait_for(arrived, f"{about} did not arrive for {mailbox}")


def flush_until_delivered(origin: Site, target: Site, mailbox: str, about: str) -> bytes:
    """Let the queue be tried again until the message is there; resolvers remember failures for some seconds."""

    def arrived() -> bytes | None:
        origin.run("postfix", "postqueue", "-f")
        return next((one for one in target.mail(mailbox) if subject_of(one) == about), None)

    return wait_for(arrived, f"{about} did not arrive", seconds=90)


def count(site: Site, mailbox: str, about: str) -> int:
    """How many messages with this subject were delivered so far, to Junk or not."""
    return sum(subject_of(one) == about for folder in ("", JUNK) for one in site.mail(mailbox, folder))


def results(content: bytes, authserv_id: str) -> list[authres.AuthenticationResultsHeader]:
    """The Authentication-Results fields with an authserv-id, as authres reads them."""
    found = [
        authres.AuthenticationResultsHeader.parse(f"Authentication-Results: {_unfold(value)}")
        for value in parse(content).get_all("Authentication-Results", [])
    ]
    return [one for one in found if one.authserv_id == authserv_id]


def raw_results(content: bytes) -> list[str]:
    """The Authentication-Results fields as text on one line each, comments included."""
    return [_unfold(value) for value in parse(content).get_all("Authentication-Results", [])]


def own_results(content: bytes, site: Site) -> list[authres.AuthenticationResult]:
    """What a site says of a message, in exactly one field: SPF first, then each signature, DMARC last."""
    (header,) = results(content, site.stack.hostname)
    methods = [one.method for one in header.results]
    assert methods == ["spf", *["dkim"] * (len(methods) - 2), "dmarc"]
    return list(header.results)


def dkim_results(content: bytes, site: Site) -> list[authres.AuthenticationResult]:
    """What a site says about the signatures of a message."""
    return own_results(content, site)[1:-1]


def spf_result(content: bytes, site: Site) -> authres.AuthenticationResult:
    """What a site says about SPF, in the field that holds the other results too."""
    return own_results(content, site)[0]


def properties(result: authres.AuthenticationResult) -> dict[str, str]:
    """The properties of a result, as {"header.from": "…"}."""
    return {f"{one.type}.{one.name}": one.value for one in result.properties}


def dmarc_result(content: bytes, site: Site) -> authres.AuthenticationResult:
    """What a site says about DMARC."""
    return own_results(content, site)[-1]


def received_spf(content: bytes) -> str:
    """The one Received-SPF field."""
    (value,) = parse(content).get_all("Received-SPF", [])
    return _unfold(value)


def verdicts(site: Site) -> list[dict[str, Any]]:
    """What a site's dmarc service said of messages, one by one."""
    lines = (line.partition("| ")[2] for line in site.log("dmarc"))
    return [json.loads(line) for line in lines if line.startswith("{")]


def all_verdicts(site: Site, recipient: str, outsider: Machine) -> list[dict[str, Any]]:
    """Those about all that was sent before, and one more."""
    one_more(site, recipient, outsider)
    return verdicts(site)


def one_more(site: Site, recipient: str, outsider: Machine) -> str:
    """Send a message, whose lines policyd-spf and dmarc write behind those of all earlier ones; its queue id."""
    sender, later = "someone@listed.example", message("someone@listed.example", recipient, subject("later"))
    assert send(outsider, address_of(site), sender, recipient, later).code == 250
    queue_id: str = verdict(site, later)["queue_id"]
    wait_for(lambda: [one for one in site.log("policyd-spf") if queue_id in one], "policyd-spf does not say it")
    return queue_id


def verdict(site: Site, content: bytes) -> dict[str, Any]:
    """The one verdict of a site about a message that was sent to it, known by its Message-ID."""
    wanted = parse(content)["Message-ID"]
    found: list[dict[str, Any]] = wait_for(
        lambda: [one for one in verdicts(site) if one["message_id"] == wanted], f"no verdict about {wanted}"
    )
    (one,) = found
    return one


def internal_id(site: Site) -> bytes:
    """The secret authserv-id of a site, which must be seen nowhere."""
    return (site.directory / authserv_id.FILE).read_bytes().strip()


def _unfold(value: str) -> str:
    return " ".join(str(value).split())


def as_sent(content: bytes) -> bytes:
    """A delivered message with the line ends that it had on the wire."""
    return re.sub(rb"\r?\n", b"\r\n", content)


def rsa_key(bits: int = 2048) -> bytes:
    """A new private key; of any length, so by openssl, since libraries refuse short ones."""
    return subprocess.run(["openssl", "genrsa", "-traditional", str(bits)], check=True, capture_output=True).stdout


def public_key(pem: bytes) -> str:
    """The public half of a private key, as a key record has it."""
    done = subprocess.run(["openssl", "rsa", "-pubout", "-outform", "DER"], input=pem, check=True, capture_output=True)
    return base64.b64encode(done.stdout).decode()


def published_key(names: Nameserver, selector: str, *domains: str) -> bytes:
    """A fresh RSA key as PEM, published under a selector of these domains."""
    key = rsa_key()
    for domain in domains:
        names.set(f"{selector}._domainkey.{domain}", "TXT", key_record(public_key(key)))
    names.publish()
    return key


def key_record(public: str) -> str:
    """A DKIM key record as a TXT value of a zone file."""
    value = f"v=DKIM1; k=rsa; p={public}"
    return " ".join(f'"{value[at : at + 255]}"' for at in range(0, len(value), 255))


def rsa_public(modulus: int, exponent: int) -> str:
    """The public key of any two numbers, as a key record has it (RFC 8017 appendix A.1.1)."""

    def element(kind: int, content: bytes) -> bytes:
        size = len(content)
        length = size.to_bytes(-(-size.bit_length() // 8), "big")
        return bytes([kind]) + (length if size < 128 else bytes([0x80 | len(length)]) + length) + content

    # One bit more than the number has, so that it is not negative.
    numbers = (element(2, one.to_bytes(one.bit_length() // 8 + 1, "big")) for one in (modulus, exponent))
    return base64.b64encode(element(0x30, b"".join(numbers))).decode()


def dkim_sign(content: bytes, domain: str, selector: str, key: bytes) -> bytes:
    """The message with a signature by dkimpy, relaxed/simple as ours."""
    signature = dkim.sign(
        content, selector.encode(), domain.encode(), key, canonicalize=(b"relaxed", b"simple"), include_headers=None
    )
    return bytes(signature) + content


def dkim_by_hand(content: bytes, key: bytes, **tags: object) -> bytes:
    """The message with a signature by an RSA key and any tags, right in all else."""
    headers, body = dkim.rfc822_parse(content)
    digest = base64.b64encode(hashlib.sha256(Relaxed.canonicalize_body(body)).digest()).decode()
    given = {"v": 1, "a": "rsa-sha256", "c": "relaxed/relaxed", "h": "from:subject", "bh": digest, **tags}
    value = "".join(f" {name}={text};" for name, text in given.items()).encode() + b" b="
    signed = dkim.select_headers(Relaxed.canonicalize_headers(headers), str(given["h"]).encode().split(b":"))
    octets = b"".join(b"%s:%s" % one for one in signed) + b"dkim-signature:" + value.strip()
    private = serialization.load_pem_private_key(key, None)
    assert isinstance(private, rsa.RSAPrivateKey)
    made = base64.b64encode(private.sign(octets, padding.PKCS1v15(), hashes.SHA256()))
    return b"DKIM-Signature:" + value + made + b"\r\n" + content


def signed_part(content: bytes) -> bytes:
    """A delivered message from its DKIM-Signature on: as its sender's stack sent it."""
    return as_sent(content[content.index(b"DKIM-Signature:") :])


def independent_dkim(content: bytes, names: Nameserver) -> bool:
    """What dkimpy says about a delivered message."""
    return bool(verify(names.machine.published(53), dkim=as_sent(content).decode("latin-1")))


def independent_spf(client: str, sender: str, helo: str, names: Nameserver) -> str:
    """What pyspf says about a client, with the world's name server as its DNS."""
    return str(verify(names.machine.published(53), spf=[client, sender, helo]))


@functools.cache
def _verifiers() -> subprocess.Popen[str]:
    """The process of tests/verify.py; it ends with its input, which is this process's."""
    program = Path(__file__).with_name("verify.py")
    # Isolated: only what is installed can be imported, and nothing of ours is.
    command = [sys.executable, "-I", str(program)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def verify(server: tuple[str, int], **question: object) -> object:
    """Ask tests/verify.py, which asks this name server."""
    process = _verifiers()
    assert process.stdin
    assert process.stdout
    process.stdin.write(json.dumps({"dns": server, **question}) + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    assert answer, "verify.py has ended, see its error above"
    return json.loads(answer)
