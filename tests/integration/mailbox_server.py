"""Servers by aiosmtpd that stand behind a stack; one is the gateway's mailbox server, with a few addresses."""

import asyncio
import ipaddress
import ssl
import threading
from types import TracebackType
from typing import Self

from aiosmtpd.controller import UnthreadedController
from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import SMTP, Envelope, Session

from mailstack.world.containers import wait_for


class Receiver(UnthreadedController):
    """A server in a thread of its own, which keeps what it gets."""

    def __init__(self, address: ipaddress.IPv4Address, port: int, tls: ssl.SSLContext | None = None) -> None:
        """With a context each connection begins with TLS."""
        self.address, self.port = address, port
        self.received: list[Envelope] = []
        super().__init__(self, hostname=str(address), port=port, loop=asyncio.new_event_loop(), ssl_context=tls)
        self._thread = threading.Thread(target=self.loop.run_forever)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.received.append(envelope)
        return "250 OK"

    def wait_for(self, about: str) -> bytes:
        """Wait for a message with this subject."""
        wanted = f"Subject: {about}\r\n".encode()
        return wait_for(
            lambda: next((bytes(one.content) for one in self.received if wanted in bytes(one.content)), None),
            f"{type(self).__name__} did not get the message",
        )

    def __enter__(self) -> Self:
        self.begin()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self.finalize(), self.loop).result(timeout=10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout=10)
        self.loop.close()


class MailboxServer(Receiver):
    """Answers 550 for addresses that it does not have."""

    def __init__(
        self, address: ipaddress.IPv4Address, mailboxes: set[str], *, kind: type[SMTP] = LMTP, port: int = 2424
    ) -> None:
        self._kind = kind
        self.mailboxes = mailboxes
        # Its answers to MAIL and RCPT, if it takes nothing.
        self.rejections: dict[str, str] = {}
        super().__init__(address, port)

    def factory(self) -> SMTP:
        return self._kind(self.handler, hostname="mailboxes.example")

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.mail_from = address
        return self.rejections.get("MAIL", "250 OK")

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if "RCPT" in self.rejections:
            return self.rejections["RCPT"]
        if address not in self.mailboxes:
            return "550 5.1.1 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"
