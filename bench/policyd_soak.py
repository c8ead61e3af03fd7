"""Mixed load on policyd-spf for a long time: known and ever new domains, connections that come and go, DNS that hangs.

Prints the container's memory and the figures of the load once a minute. Needs a container engine.
"""

import argparse
import tempfile
import time
from pathlib import Path

from bench.policy_server import PolicyServer
from bench.policyd_latency import ZONE

# Beside what the tests and the other measurements start.
PLACE = {"HOSTNAME": "mail.soak.example", "SUBNET": "172.30.251.0/27"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--rate", type=int, default=50)
    parser.add_argument("--base-image", default="debian:trixie-slim")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, PolicyServer(Path(directory), options.base_image, PLACE) as server:
        server.serve(ZONE, silent=True)
        account, start = server.account(), time.monotonic()
        print(f"start: {account.memory().total / 1e6:.1f} MB", flush=True)  # noqa: T201
        for _ in range(options.minutes):
            figures = server.load(seconds=60, rate=options.rate, connections=100, hanging=5, fresh=0.5, renew=20)
            print(  # noqa: T201
                f"{(time.monotonic() - start) / 60:.0f} min: {account.memory().total / 1e6:.1f} MB, "
                + ", ".join(f"{name} {value:.2f}" for name, value in figures.items()),
                flush=True,
            )


if __name__ == "__main__":
    main()
