"""Runs all tests: first those that need no world, images beside the rest, then the integration tests in two lanes side by side.

A lane is a pytest of its own with a world of its own. What it says goes to a file, and its failures are shown when it
has ended; then come the slowest tests and each lane's time. Nothing is tried a second time.
"""

import ipaddress
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from xml.etree import ElementTree as ET

from bench import images as bench_images
from mailstack.engine import connection, images
from mailstack.errors import EngineError
from mailstack.render.contexts import image_names
from mailstack.services import ALL_NAMES
from mailstack.stack.packages import Packages
from tests.place import BASE_IMAGE, VARIABLE

TESTS = Path(__file__).parent
SAID = TESTS.parent / ".pytest_cache/lanes"
# Name, edge network and inner networks of each lane's world, and of another one where a network of the first is taken: an
# engine of the release 20.10 may keep one whose containers are gone (moby/moby issue 43286). Both edges lie in one
# network of RFC 5737, since a machine may be in another one of them; the other ones are RFC 2544's.
LANES = {
    "judging": (
        "mailstack-judging 198.51.100.0/25 172.30.240.0/22",
        "mailstack-judging-again 198.19.100.0/25 172.29.240.0/22",
    ),
    "breaking": (
        "mailstack-breaking 198.51.100.128/25 172.30.244.0/22",
        "mailstack-breaking-again 198.19.100.128/25 172.29.244.0/22",
    ),
}
# What needs no world: by folder, and the rest.
IMAGES, REST = "images", "no world"
SLOWEST = 60


class Lane:
    """A pytest that runs, in a process group of its own: Ctrl-C comes to it from here, and once."""

    def __init__(self, name: str) -> None:
        self.name = name
        folders = {**{one: TESTS / "integration" / one for one in LANES}, IMAGES: TESTS / IMAGES}
        tests = [folders[name]] if name in folders else [TESTS, *(f"--ignore={one}" for one in folders.values())]
        self.said = SAID / f"{name}.txt"
        self._results = SAID / f"{name}.xml"
        # Not where pytest puts it by itself: after Ctrl-C it may remove that before the fixtures have removed what uses it.
        self._files = tempfile.mkdtemp(prefix=f"mailstack-{name.replace(' ', '-')}-")
        options = [f"--basetemp={self._files}", "-o", f"cache_dir={SAID / name}"]
        options += [f"--junitxml={self._results}", "-o", "junit_duration_report=total"]
        self._started = time.monotonic()
        with self.said.open("wb") as said:
            self._process = subprocess.Popen(
                # What is started in the background of a shell ignores SIGINT.
                ["env", "--default-signal=INT", sys.executable, "-m", "pytest", *options, *tests],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                env={**os.environ, **({VARIABLE: free(LANES[name], taken())} if name in LANES else {})},
                process_group=0,
            )

    def wait(self) -> "Lane":
        self.failed = self._process.wait() != 0
        if not self.failed:
            shutil.rmtree(self._files, ignore_errors=True)
        self.seconds = time.monotonic() - self._started
        return self

    def interrupt(self) -> None:
        """As by Ctrl-C: pytest removes what it has started."""
        self._process.send_signal(signal.SIGINT)

    def report(self) -> str:
        """Its failures and its summary; the dots before them are left out."""
        lines = self.said.read_text(errors="replace").splitlines()
        headings = [at for at, line in enumerate(lines) if line.startswith("====")]
        begin = headings[1] if len(headings) > 2 else -1
        return "\n".join([f"== {self.name}: {minutes(self.seconds)}; all of it: {self.said}", *lines[begin:]])

    def tests(self) -> Iterator[tuple[float, str]]:
        """The seconds of each test with its fixtures, and its name."""
        if self._results.exists():
            for one in ET.parse(self._results).iter("testcase"):
                path = one.attrib["classname"].replace(".", "/")
                yield float(one.attrib["time"]), f"{path}.py::{one.attrib['name']}"


def taken() -> list[ipaddress.IPv4Network]:
    """The IPv4 networks of the engine."""
    try:
        found = connection.connect().networks.list()
    except EngineError:
        return []
    ranges = (one["Subnet"] for network in found for one in network.attrs["IPAM"]["Config"] or ())
    return [ipaddress.IPv4Network(one) for one in ranges if ":" not in one]


def free(places: Sequence[str], used: Collection[ipaddress.IPv4Network]) -> str:
    """The first place whose networks nobody uses; the first of all where there is none."""
    return next((one for one in places if not any(map(_overlaps(one), used))), places[0])


def _overlaps(place: str) -> Callable[[ipaddress.IPv4Network], bool]:
    networks = [ipaddress.IPv4Network(one) for one in place.split()[1:]]
    return lambda other: any(map(other.overlaps, networks))


def minutes(seconds: float) -> str:
    return f"{seconds // 60:.0f} min {seconds % 60:02.0f} s"


def build_images() -> None:
    """What the lanes need, so that no two of them build the same. Without an engine their tests say so."""
    try:
        client = connection.connect()
    except EngineError:
        return
    packages = Packages(BASE_IMAGE)
    images.build_missing(client, image_names((*ALL_NAMES, "world", "readers"), packages), packages)
    bench_images.build(client, BASE_IMAGE, ("bare", "rspamd"))


def run(names: tuple[str, ...]) -> list[Lane]:
    """Run lanes side by side, and show each as it ends."""
    print(f"== running {', '.join(names)}: {SAID}", flush=True)
    lanes = list[Lane]()
    with ThreadPoolExecutor(len(names)) as pool:
        try:
            for name in names:
                lanes.append(Lane(name))  # each is known before the next one starts
            for one in as_completed([pool.submit(lane.wait) for lane in lanes]):
                print(one.result().report(), flush=True)
        except KeyboardInterrupt:
            for lane in lanes:
                lane.interrupt()
            raise
    return lanes


def main() -> int:
    """The exit code: 1 if a lane failed, 130 after Ctrl-C or SIGTERM."""
    # A shell's background job ignores SIGINT otherwise.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    SAID.mkdir(parents=True, exist_ok=True)
    try:
        build_images()
        lanes = [*run((IMAGES, REST)), *run(tuple(LANES))]
    except KeyboardInterrupt:
        print("interrupted")
        return 130
    print(f"== the {SLOWEST} slowest tests, in seconds, with what they start")
    for seconds, name in sorted((one for lane in lanes for one in lane.tests()), reverse=True)[:SLOWEST]:
        print(f"{seconds:7.1f} {name}")
    for lane in lanes:
        print(f"== {lane.name}: {minutes(lane.seconds)}, {'FAILED' if lane.failed else 'passed'}")
    return int(any(lane.failed for lane in lanes))


if __name__ == "__main__":
    sys.exit(main())
