"""Latency of policyd-spf on 299 connections, with and without one more whose DNS never answers, in turns.

Prints the percentiles of each run, the ratio of the medians of their 99th, CPU and memory. Needs a container engine.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from bench.policy_server import PolicyServer

# Beside what the tests start.
PLACE = {"HOSTNAME": "mail.latency.example", "SUBNET": "172.30.250.0/27"}
ZONE = {
    **{f"d{at}.example": [{"TXT": f"v=spf1 a ip4:192.0.2.0/25 include:_spf.d{at}.example ~all"}] for at in range(201)},
    **{f"_spf.d{at}.example": [{"TXT": "v=spf1 ip4:198.51.100.0/24 ip4:203.0.113.0/24 -all"}] for at in range(201)},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=10, help="of one run; each round has two")
    parser.add_argument("--rate", type=int, default=200)
    parser.add_argument("--base-image", default="debian:trixie-slim")
    options = parser.parse_args()
    found: dict[int, list[float]] = {0: [], 1: []}
    with tempfile.TemporaryDirectory() as directory, PolicyServer(Path(directory), options.base_image, PLACE) as server:
        server.serve(ZONE, silent=True)
        server.load(seconds=5, rate=options.rate)
        account, requests = server.account(), 0.0
        before = account.cpu()
        for _ in range(options.rounds):
            for hanging, p99 in found.items():
                figures = server.load(seconds=options.seconds, rate=options.rate, hanging=hanging)
                p99.append(figures["p99"])
                requests += figures["requests"]
                print(f"{hanging} hanging: " + ", ".join(f"{name} {value:.2f}" for name, value in figures.items()))  # noqa: T201
        cpu, memory = (account.cpu() - before) / requests * 1000, account.memory().total / 1e6
    without, beside = (statistics.median(one) for one in found.values())
    print(f"p99 without {without:.2f} ms, beside a hanging one {beside:.2f} ms: {beside / without:.2f} times")  # noqa: T201
    print(f"CPU {cpu:.3f} ms for a request, memory {memory:.1f} MB")  # noqa: T201
    sys.exit(0 if beside <= 1.2 * without + 5 else 1)


if __name__ == "__main__":
    main()
