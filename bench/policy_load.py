"""Load on a policy socket: many connections, requests at a steady rate, replies timed. Needs Python alone.

Runs beside policyd-spf, in a container that shares its socket's volume. Prints one JSON object, latencies in
milliseconds.
"""

import argparse
import asyncio
import itertools
import json
import random
import time

_MESSAGES = itertools.count()


def request(sender: str, helo: str, client: str) -> bytes:
    """As Postfix asks, with a message of its own."""
    at = next(_MESSAGES)
    values = {
        "request": "smtpd_access_policy",
        "protocol_state": "RCPT",
        "client_address": client,
        "helo_name": helo,
        "sender": sender,
        "recipient": "user@example.com",
        # Unlike those of earlier runs, too: policyd-spf answers a queue id that it knows from memory.
        "queue_id": f"{time.monotonic_ns():X}Q{at}",
        "instance": f"{at}.{time.monotonic_ns()}",
    }
    return "".join(f"{name}={value}\n" for name, value in values.items()).encode() + b"\n"


def sender(*, fresh: float) -> tuple[str, str]:
    """Sender and HELO: one of 200 domains by Zipf's law, or with that share a domain that nobody has asked about."""
    if random.random() < fresh:  # noqa: S311
        return f"a@n{next(_MESSAGES)}.fresh.example", "mail.fresh.example"
    at = min(int(random.paretovariate(1.0)), 200)
    return f"a@d{at}.example", f"mail.d{at}.example"


class Load:
    """What is measured."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.latencies: list[float] = []
        self.failed = 0

    async def ask(self, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], octets: bytes) -> bytes:
        reader, writer = streams
        writer.write(octets)
        return await reader.readuntil(b"\n\n")

    async def connection(self, *, pause: float, until: float, fresh: float, renew: int) -> None:
        """Ask with pauses between, on a new connection after so many requests."""
        await asyncio.sleep(random.random() * pause)  # noqa: S311
        while time.monotonic() < until:
            streams = await asyncio.open_unix_connection(self._path)
            for _ in range(renew):
                mail_from, helo = sender(fresh=fresh)
                start = time.perf_counter()
                reply = await self.ask(streams, request(mail_from, helo, f"192.0.2.{random.randrange(1, 255)}"))  # noqa: S311
                self.latencies.append((time.perf_counter() - start) * 1000)
                self.failed += not reply.startswith(b"action=PREPEND Received-SPF: ")
                if time.monotonic() >= until:
                    break
                await asyncio.sleep(pause)
            streams[1].close()

    async def hanging(self, until: float) -> None:
        """Ask about a domain whose DNS never answers, again and again."""
        while time.monotonic() < until:
            streams = await asyncio.open_unix_connection(self._path)
            await self.ask(streams, request("a@error.example", "mail.d1.example", "192.0.2.1"))
            streams[1].close()


async def run(options: argparse.Namespace) -> dict[str, float]:
    """Put the load on; the figures."""
    load = Load(options.socket)
    until = time.monotonic() + options.seconds
    pause = options.connections / options.rate
    waiting = [asyncio.create_task(load.hanging(until)) for _ in range(options.hanging)]
    await asyncio.gather(
        *(
            load.connection(pause=pause, until=until, fresh=options.fresh, renew=options.renew)
            for _ in range(options.connections)
        )
    )
    for task in waiting:
        task.cancel()
    ordered = sorted(load.latencies)
    figures = {f"p{part}": ordered[len(ordered) * part // 100] for part in (50, 95, 99)}
    return {"requests": len(ordered), "failed": load.failed, **figures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", required=True)
    parser.add_argument("--connections", type=int, default=299)
    parser.add_argument("--rate", type=float, default=200.0, help="requests in a second, all connections together")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--hanging", type=int, default=0, help="connections that ask where DNS never answers")
    parser.add_argument("--fresh", type=float, default=0.0, help="share of requests about domains never asked before")
    parser.add_argument("--renew", type=int, default=10**9, help="requests on one connection")
    print(json.dumps(asyncio.run(run(parser.parse_args()))))  # noqa: T201


if __name__ == "__main__":
    main()
