"""The benchmark's sending host, against a real SMTP server."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiosmtpd.controller import UnthreadedController
from aiosmtpd.smtp import SMTP, Envelope, Session

from bench.send import Host
from certificates import Authority
from mailstack.world.containers import wait_for

CONTENT = b"From: user@one.example\r\n\r\nA body.\r\n"


class Server:
    """Takes mail, but for one recipient."""

    def __init__(self) -> None:
        self.taken: list[tuple[str | None, bytes]] = []
        self.loop = asyncio.new_event_loop()

    def sessions(self) -> int:
        """How many are open; each is a task."""
        return len(asyncio.all_tasks(self.loop))

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address == "refused@two.example":
            return "550 5.1.1 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250-with more than one line\r\n250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        self.taken.append((envelope.mail_from, envelope.content))
        return "250 OK"


@pytest.fixture(params=[False, True], ids=["in clear", "by TLS"])
def tls(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def server(tls: bool, tmp_path: Path) -> Iterator[tuple[Server, int]]:
    handler, context = Server(), None
    if tls:
        pair = Authority().issue("one.example")
        (tmp_path / "pair.pem").write_bytes(pair.key + pair.chain)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "pair.pem")
    controller = UnthreadedController(
        handler, hostname="127.0.0.1", port=0, loop=handler.loop, tls_context=context, require_starttls=tls
    )
    controller.begin()
    thread = threading.Thread(target=controller.loop.run_forever, daemon=True)
    thread.start()
    try:
        yield handler, controller.server.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(controller.finalize(), controller.loop).result(timeout=10)
        controller.loop.call_soon_threadsafe(controller.loop.stop)
        thread.join(timeout=10)
        controller.loop.close()


def host(tmp_path: Path, port: int, recipient: str = "user@two.example", *, tls: bool) -> Host:
    (tmp_path / "one.eml").write_bytes(CONTENT)
    loads = {"one": [["user@one.example", str(tmp_path / "one.eml")]]}
    return Host({"port": port, "tls": tls, "helo": "sender.example", "recipient": recipient, "loads": loads})


def test_delivers_each_message_once(tmp_path: Path, server: tuple[Server, int], tls: bool) -> None:
    """So many messages are sent as were asked for, whole, and each gives a latency."""
    handler, port = server
    question = {"target": "127.0.0.1", "load": "one", "sessions": 3, "messages": 10, "seed": 1}
    answer = host(tmp_path, port, tls=tls).answer({"what": "deliver", **question})
    assert handler.taken == [("user@one.example", CONTENT)] * 10
    assert len(answer["latencies"]) == 10
    wait_for(lambda: not handler.sessions(), "a session stays open")
    assert all(0 < one < answer["end"] - answer["begin"] for one in answer["latencies"])


def test_holds_and_releases(tmp_path: Path, server: tuple[Server, int], tls: bool) -> None:
    """Sessions past RCPT stay open until they are released, and deliver nothing."""
    handler, port = server
    one = host(tmp_path, port, tls=tls)
    assert one.answer({"what": "hold", "target": "127.0.0.1", "load": "one", "sessions": 5}) == {"held": 5}
    assert handler.sessions() == 5
    assert one.answer({"what": "release"}) == {"held": 0}
    wait_for(lambda: not handler.sessions(), "a session stays open")
    assert handler.taken == []


def test_a_refusal_is_a_fault(tmp_path: Path, server: tuple[Server, int], tls: bool) -> None:
    """Mail that was not taken is no measurement: the server's words come back."""
    handler, port = server
    question = {"target": "127.0.0.1", "load": "one", "sessions": 2, "messages": 4, "seed": 1}
    answer = host(tmp_path, port, "refused@two.example", tls=tls).answer({"what": "deliver", **question})
    assert "550 5.1.1 no such mailbox" in answer["fault"]
    wait_for(lambda: not handler.sessions(), "a session stays open")
