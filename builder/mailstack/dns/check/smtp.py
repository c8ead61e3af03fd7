"""Who answers at port 25 of a site's addresses, as far as that is seen from here."""

import asyncio
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mailstack.dns.findings import Finding
from mailstack.errors import os_reason
from mailstack.values.network import Address

# postscreen waits 6 seconds before it greets a client that it does not know.
SECONDS = 8.0
PORT = 25
_READY, _DONE = 220, 250
_MAX_LINES = 100
_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])([^\r\n]*))?\r?\n")


class _ReplyError(Exception):
    """A reply that is not the expected one; its text says what came."""


@dataclass(frozen=True)
class _Greeted:
    """The name in the greeting (RFC 5321 section 4.2), and the certificate after STARTTLS; None: it is not offered."""

    name: str
    certificate: bytes | None


async def answers(
    address: Address, hostname: str, certificates: Sequence[x509.Certificate], seconds: float, port: int = PORT
) -> list[Finding]:
    """Whether this site answers, with its name and certificate.

    certificates are those of the site's directory; with none of them nothing is compared.
    """

    def warning(code: str, what: str, by_hand: str) -> list[Finding]:
        return [Finding("warning", code, hostname, "SMTP", f"port {port} of {address} {what}", by_hand=by_hand)]

    try:
        async with asyncio.timeout(min(SECONDS, seconds)):
            found = await _greeted(str(address), port, hostname)
    except (OSError, _ReplyError) as error:
        by_hand = (
            "Check it from another network: some routers do not let this host in by its own outer address. If it does "
            "not answer there either, let firewall, router and provider pass port 25; --no-smtp leaves this out"
        )
        return warning("smtp-silent", f"does not answer from here: {_reason(error)}", by_hand)
    if found.name.lower() != hostname:
        by_hand = f"Let port {port} of {address} lead to this host; --no-smtp leaves this out"
        return warning("smtp-other", f"answers as {found.name or 'nobody'}, not as {hostname}", by_hand)
    if found.certificate is None:
        by_hand = "Look for a firewall that changes SMTP (some call it SMTP inspection), and switch that off"
        return warning("smtp-no-tls", "does not offer STARTTLS", by_hand)
    if certificates and found.certificate not in [one.public_bytes(Encoding.DER) for one in certificates]:
        by_hand = "Check the certificates in tls/ (mailstack status), and what stands before this host"
        return warning("smtp-certificate", "presents a certificate that is not in tls/", by_hand)
    what = f"port {port} of {address} answers as {hostname}, with STARTTLS"
    return [Finding("fine", "fine", hostname, "SMTP", what)]


async def _greeted(address: str, port: int, hostname: str) -> _Greeted:
    reader, writer = await asyncio.open_connection(address, port)
    try:
        greeting = await _reply(reader, _READY)
        writer.write(f"EHLO {hostname}\r\n".encode())
        offered = [line.split()[0].upper() for line in (await _reply(reader, _DONE))[1:] if line.split()]
        if "STARTTLS" not in offered:
            writer.write(b"QUIT\r\n")
            return _Greeted(_first(greeting), None)
        writer.write(b"STARTTLS\r\n")
        await _reply(reader, _READY)
        # Which certificate it is, is seen; nobody's word is believed.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        await writer.start_tls(context, server_hostname=hostname)
        certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.write(b"QUIT\r\n")
        return _Greeted(_first(greeting), certificate)
    finally:
        # Nothing more is of interest, and waiting for the other side's farewell may take for ever.
        writer.transport.abort()


def _first(lines: Sequence[str]) -> str:
    return next(iter(lines[0].split()), "")


async def _reply(reader: asyncio.StreamReader, wanted: int) -> list[str]:
    """The lines of a reply. Raises _ReplyError for another code than the wanted one, and for what is no reply."""
    lines = list[str]()
    while len(lines) < _MAX_LINES:
        try:
            line = await reader.readline()
        except ValueError:
            raise _ReplyError("its reply has a line without an end") from None
        found = _LINE.fullmatch(line)
        if not found:
            raise _ReplyError("the connection is closed" if not line else "its reply is not SMTP")
        code, mark, text = int(found[1]), found[2], (found[3] or b"").decode("ascii", "replace")
        if code != wanted:
            raise _ReplyError(f"it says {code} {text}".strip())
        lines.append(text)
        if mark != b"-":
            return lines
    raise _ReplyError(f"its reply has more than {_MAX_LINES} lines")


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no whole answer within {SECONDS:g} s"
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
        return os_reason(error)
    return str(error)
