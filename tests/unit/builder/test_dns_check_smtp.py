"""Who answers at port 25: servers that speak SMTP, and what else is found there."""

import asyncio
import ipaddress
import socketserver
import ssl
import threading
from contextlib import contextmanager

import pytest
from cryptography import x509

from certificates import Authority
from mailstack.dns.check import smtp

ADDRESS = ipaddress.ip_address("127.0.0.1")
NAME = "mail.example.com"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A certificate with its key, as a file, and the certificate itself."""
    made = Authority().issue(NAME)
    path = tmp_path_factory.mktemp("pair") / "pair.pem"
    path.write_bytes(made.chain + made.key)
    return path, x509.load_pem_x509_certificate(made.certificate)


@contextmanager
def server(*replies, pair=None):
    """It says each reply, the first at once and the others after a command; with a pair it then speaks TLS."""

    class Session(socketserver.StreamRequestHandler):
        def handle(self):
            for number, reply in enumerate(replies):
                if number and not self.rfile.readline():
                    return
                self.wfile.write(reply)
            if pair:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(pair)
                with context.wrap_socket(self.request, server_side=True) as link:
                    link.recv(100)
            else:
                self.rfile.read()

    with socketserver.ThreadingTCPServer((str(ADDRESS), 0), Session) as found:
        found.daemon_threads = True
        thread = threading.Thread(target=found.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield found.server_address[1]
        finally:
            found.shutdown()
            thread.join()


def found_at(port, certificates=(), seconds=8.0):
    (found,) = asyncio.run(smtp.answers(ADDRESS, NAME, certificates, seconds, port))
    return found


GREETING = b"220 mail.example.com ESMTP\r\n"
EHLO = b"250-mail.example.com\r\n250-SIZE 1000\r\n250 STARTTLS\r\n"
GO_ON = b"220 2.0.0 Ready to start TLS\r\n"


@pytest.mark.parametrize("greeting", [GREETING, b"220-wait\r\n" + GREETING, GREETING.replace(b"mail", b"MAIL")])
def test_this_site(pair, greeting):
    """With its certificate, or where none is known; postscreen's first line is its own."""
    greeting = greeting.replace(b"wait", b"mail.example.com ESMTP")
    path, certificate = pair
    for known in ([certificate], []):
        with server(greeting, EHLO, GO_ON, pair=path) as port:
            found = found_at(port, known)
        assert (found.level, found.what) == ("fine", f"port {port} of 127.0.0.1 answers as {NAME}, with STARTTLS")


def test_another_certificate(pair):
    """One that is not the site's, as that of a firewall in between."""
    other = x509.load_pem_x509_certificate(Authority().issue(NAME).certificate)
    with server(GREETING, EHLO, GO_ON, pair=pair[0]) as port:
        assert found_at(port, [other]).code == "smtp-certificate"


OTHERS = {
    "another server": ([b"220 mx.example.net ESMTP\r\n", b"250 mx.example.net\r\n"], "smtp-other", "as mx.example.net"),
    "no name": ([b"220\r\n", b"250 x\r\n"], "smtp-other", "answers as nobody"),
    "no STARTTLS": ([GREETING, b"250-mail.example.com\r\n250 SIZE 1000\r\n"], "smtp-no-tls", "does not offer"),
    "STARTTLS in the name's line": ([GREETING, b"250 STARTTLS\r\n"], "smtp-no-tls", "does not offer"),
    "STARTTLS refused": ([GREETING, EHLO, b"454 4.7.0 TLS not available\r\n"], "smtp-silent", "it says 454 4.7.0 TLS"),
    "refused": ([b"554 5.7.1 go away\r\n"], "smtp-silent", "it says 554 5.7.1 go away"),
    "no SMTP": ([b"SSH-2.0-x\r\n"], "smtp-silent", "its reply is not SMTP"),
    "a line without an end": ([b"220 " + b"x" * 200_000], "smtp-silent", "a line without an end"),
    "lines without an end": ([b"220-mail.example.com\r\n" * 200], "smtp-silent", "more than 100 lines"),
    "octets": ([b"220 \xff\x1b[2J\x00\r\n", b"250 x\r\n"], "smtp-other", "answers as"),
}


@pytest.mark.parametrize(("replies", "code", "words"), OTHERS.values(), ids=OTHERS.keys())
def test_others(replies, code, words):
    """Whatever is there, it is a warning with what was seen."""
    with server(*replies) as port:
        found = found_at(port)
    assert (found.level, found.code) == ("warning", code)
    assert words in found.what


@pytest.mark.parametrize(
    "replies", [[], [b"220"], [b"220 "], [GREETING, EHLO, GO_ON]], ids=["at once", "in a code", "in a line", "in TLS"]
)
def test_silence(replies):
    """It is waited for so long and no longer."""
    with server(*replies) as port:
        found = found_at(port, seconds=0.3)
    assert (found.code, "no whole answer" in found.what) == ("smtp-silent", True)


def test_nobody_listens():
    """The system's words, and what to do."""
    with server() as port:
        pass
    found = found_at(port)
    assert (found.level, found.code) == ("warning", "smtp-silent")
    assert "Connection refused" in found.what or "Connect call failed" in found.what
    assert "from another network" in found.by_hand
