"""mailstack_auth.spf.results: policyd-spf as the milter asks it, and if it gives no answer."""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from mailstack_auth.dmarc import inbound
from mailstack_auth.spf import policy_protocol
from mailstack_auth.spf.judgement import Judgement
from unit.auth.postfix import FROM_A, SIGNED, TROUBLE, Sent, break_idle, close, plain, running


def _answering(answer, gone=None):
    """A handler that reads requests and says something to each; None hangs up. Then it tells that the peer has gone."""

    async def serve(stream, sink):
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                await stream.readuntil(b"\n\n")
                if answer is None:
                    break
                sink.write(answer)
        await close(sink)
        if gone:
            gone.set()

    return serve


ANSWERS = {
    "hangs up": None,
    "an error": b'{"error": "no client address"}\n',
    "no JSON": b"OK\n",
    "half an answer": b'{"exempt": null}\n',
    "no result in an evaluation": (
        b'{"evaluation": {"helo": null, "mailfrom": null}, "exempt": null, "doubtful": false}\n'
    ),
    "neither a result nor the reason for none": b'{"evaluation": null, "exempt": null, "doubtful": false}\n',
    "another kind": b"[]\n",
    "empty": b"\n",
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_policyd_spf_does_not_say(answer, tmp_path, capsys):
    """The message waits, and the log says why; once policyd-spf is itself again, so is everything."""

    async def hand_on():
        async with running(tmp_path) as one:
            real = tmp_path / "results.sock"
            real.rename(tmp_path / "real")
            assert (await one.outside.hand_on(plain("a.example", **FROM_A))).reply == TROUBLE
            server = await asyncio.start_unix_server(_answering(answer), real)
            assert (await one.outside.hand_on(plain("a.example", **FROM_A))).reply == TROUBLE
            server.close()
            real.unlink(missing_ok=True)
            (tmp_path / "real").rename(real)
            break_idle(one.spf)
            return await one.outside.hand_on(plain("a.example", **FROM_A))

    assert asyncio.run(hand_on()).results()[-1] == "dmarc=pass"
    lines = capsys.readouterr().out.splitlines()
    assert [one.startswith("dmarc: : error=") and one.endswith("action=defer") for one in lines[:2]] == [True] * 2
    assert ("no client address" in lines[1]) == (answer is not None and b"no client address" in answer)


def test_policyd_spf_has_left_its_result(tmp_path):
    """Then nobody asks; but for a message of that queue id alone, from that client with that HELO and sender."""
    sent = plain("a.example", queue_id=b"4gX1", **FROM_A)
    others = [
        replace(sent, **one) for one in ({"queue_id": b"4gX2"}, {"helo": b"other.example"}, {"sender": b"a@x.example"})
    ]

    async def hand_on():
        async with running(tmp_path) as one:
            request = policy_protocol.question("4gX1", sent.client, sent.helo, sent.sender)
            await one.policyd.action(policy_protocol.parse(request.strip()), lambda _: True)
            assert (await one.outside.hand_on(sent)).results()[-1] == "dmarc=pass"
            assert one.connections == []
            for other in others:
                await one.outside.hand_on(other)
            assert len(one.connections) == 1

    asyncio.run(hand_on())


def test_a_connection_to_policyd_spf_that_breaks(tmp_path):
    """One that broke while it was idle is nobody's trouble, nor is a new one, once: a worker may have gone with it."""
    sent = plain("a.example", **FROM_A)

    async def hand_on():
        async with running(tmp_path) as one:
            await one.outside.hand_on(sent)
            one.connections[0].close()
            assert (await one.outside.hand_on(sent)).results()[-1] == "dmarc=pass"
            assert len(one.connections) == 2
            for breaking, reply in ((1, None), (2, TROUBLE), (0, None)):
                break_idle(one.spf)
                one.breaking = breaking
                assert (await one.outside.hand_on(sent)).reply == reply

    asyncio.run(hand_on())


def test_policyd_spf_answers_in_pieces(tmp_path):
    """An answer counts when it is whole."""

    async def in_pieces(stream, sink):
        await stream.readuntil(b"\n\n")
        line = Judgement(exempt="forwarder").line()
        for piece in (line[:20], line[20:-1], line[-1:]):
            sink.write(piece)
            await sink.drain()
            # Each piece is read by itself.
            await asyncio.sleep(0)
        await close(sink)

    async def hand_on():
        async with running(tmp_path) as one:
            (tmp_path / "results.sock").unlink()
            async with await asyncio.start_unix_server(in_pieces, tmp_path / "results.sock"):
                return await one.outside.hand_on(Sent(SIGNED))

    found = asyncio.run(hand_on())
    assert found.results()[0] == "spf=none"
    assert found.results()[-1] == "dmarc=pass"


def test_policyd_spf_that_hangs(tmp_path, monkeypatch):
    """A message does not wait for it for ever."""
    monkeypatch.setattr(inbound, "MAX_SECONDS", 0.2)

    async def hand_on():
        async with running(tmp_path) as one:
            (tmp_path / "results.sock").unlink()
            gone = asyncio.Event()
            server = await asyncio.start_unix_server(_answering(b"", gone), tmp_path / "results.sock")
            found = await one.outside.hand_on(plain("a.example", **FROM_A))
            await asyncio.wait_for(gone.wait(), 10)
            server.close()
            return found

    assert asyncio.run(hand_on()).reply == TROUBLE
