"""The key that signs changes while mail flows: each message has one valid signature of a key that is published."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from integration.breaking.test_health import wait_healthy
from integration.breaking.test_outage import Stream, all_of
from integration.conftest import INSIDER, site
from mailstack.dns.formats import rdata
from mailstack.dns.records import records
from mailstack.errors import DkimKeyError, RecordFaultError
from mailstack.keys import life
from mailstack.keys.life import RETIRE_AFTER
from mailstack.tasks import rotate
from mailstack.tasks.build import roll_back
from mailstack.tasks.dkim import keys
from mailstack.tasks.load import load_stack
from mailstack.world.containers import Machine, wait_for
from mailstack.world.internet import Internet
from mailstack.world.site import Site
from place import NAME
from support import dkim_results, independent_dkim, own_results

DOMAINS = ("wheel.example", "axle.example")
# How long mail flows while the key changes. For three minutes and more, at most one try in a hundred is refused.
SECONDS, MINUTES = float(os.environ.get("ROTATION_SECONDS", "0")), 180.0


@pytest.fixture(scope="module")
def wheel(world: Internet, insider: Machine) -> Site:
    """A site of two domains that share a key, without anybody else's mail."""
    return site(
        world,
        "mail.wheel.example",
        ",".join(DOMAINS),
        MAILBOXES="user@wheel.example",
        DKIM_KEY_BITS="1024",
        TRUSTED_NETWORKS=str(INSIDER),
    )


@pytest.fixture
def steps(wheel: Site) -> rotate.Rotation:
    return rotate.Rotation(wheel.directory, wheel.environment, prefix=f"{NAME}-")


def later(steps: rotate.Rotation, by: timedelta) -> rotate.Rotation:
    """The same, so much later."""
    return replace(steps, now=lambda: steps.now() + by)


def said_by(step: Callable[..., None], steps: rotate.Rotation, **options: Any) -> str:
    """What a step says."""
    said: list[str] = []
    step(replace(steps, say=said.append), **options)
    return "\n".join(said)


def publish(world: Internet, site: Site) -> dict[str, str]:
    """Publish a site's DKIM records in the place of those before; name and value of each."""
    stack, _ = load_stack(site.directory, site.environment)
    rows = [one for one in records(stack) if "._domainkey." in one.name]
    for selector in ("default", "default2", *(one.name.partition(".")[0] for one in rows)):
        for domain in (*DOMAINS, stack.hostname):
            for kind in ("TXT", "CNAME"):
                world.names.set(f"{selector}._domainkey.{domain}", kind)
    for one in rows:
        world.names.set(one.name, one.type, rdata(one).to_text())
    world.names.publish()
    return {one.name: one.value for one in rows}


def state(steps: rotate.Rotation) -> str:
    return life.read(steps.directory, "default")[DOMAINS[0]].state


@pytest.fixture
def streams(insider: Machine, wheel: Site, bravo: Site) -> tuple[Stream, ...]:
    wait_healthy(wheel)
    """From each domain ten messages a second."""
    return tuple(Stream(insider, wheel, f"user@{one}", "user@bravo.example", 587, 0.1) for one in DOMAINS)


def test_rotation_under_a_stream(
    world: Internet, wheel: Site, bravo: Site, steps: rotate.Rotation, streams: tuple[Stream, ...]
) -> None:
    """A spare key from the first day, verified, switched, retired: nothing is lost or leaves unsigned, and Postfix runs on."""
    resolvers = (str(world.names.address),)
    spare = life.read(steps.directory, "default")[DOMAINS[0]].beside
    world.names.set(f"{spare}._domainkey.wheel.example", "TXT")
    world.names.publish()
    with pytest.raises(RecordFaultError, match=r"the spare key of wheel\.example does not sign yet"):
        rotate.rotate(steps, resolvers=resolvers)
    assert state(steps) == "spare"
    before = publish(world, wheel)
    postfix, end = wheel.container("postfix"), time.monotonic() + SECONDS
    first, second = streams
    with first, second:
        wait_for(lambda: len(first.accepted) > 20 and len(second.accepted) > 20, "mail does not flow")
        assert "docker compose up -d --wait" in said_by(rotate.rotate, steps, resolvers=resolvers)
        assert state(steps) == "switched"
        wheel.up()
        assert "signs no more" in said_by(rotate.auto, steps)
        done = [len(one.accepted) for one in streams]
        wait_for(
            lambda: all(len(one.accepted) > number + 20 for one, number in zip(streams, done, strict=True)),
            "mail does not flow again",
        )
        wait_for(lambda: time.monotonic() > end, "the time does not pass", seconds=SECONDS + 10)
    assert wheel.container("postfix") == postfix
    selectors = set()
    for stream in streams:
        assert all(400 <= code < 500 for code in stream.refused)
        mail = all_of(stream, bravo)
        assert len(mail) == len(stream.accepted)
        for arrived in mail:
            assert [one.result for one in own_results(arrived, bravo)] == ["pass", "pass", "pass"]
            (signature,) = dkim_results(arrived, bravo)
            assert f"{signature.header_s}._domainkey.{signature.header_d}" in before
            selectors.add(f"{signature.header_s} {signature.header_d}")
        assert independent_dkim(mail[-1], world.names)
    tried, refused = (sum(len(getattr(one, what)) for one in streams) for what in ("accepted", "refused"))
    if SECONDS >= MINUTES:
        assert refused <= (tried + refused) / 100
    assert selectors == {
        "default wheel.example",
        "default axle.example",
        f"{spare} wheel.example",
        "default2 axle.example",
    }


def test_retired_when_its_mail_has_arrived(world: Internet, wheel: Site, steps: rotate.Rotation) -> None:
    """The key before stays published for seven days, then its private half is destroyed; other zones do not change."""
    assert state(steps) == "retiring"
    with pytest.raises(DkimKeyError, match="default signs no more, and its record stays until"):
        rotate.retire(steps)
    assert said_by(rotate.auto, later(steps, RETIRE_AFTER - timedelta(minutes=5))) == ""
    before = publish(world, wheel)
    roll_back(wheel.directory)
    with pytest.raises(DkimKeyError, match="default may still sign; run: mailstack build"):
        rotate.retire(steps, force=True)
    # The build after it again, and with it the week.
    roll_back(wheel.directory)
    assert "default signs no more" in said_by(rotate.auto, steps)
    assert "default is revoked" in said_by(rotate.auto, later(steps, RETIRE_AFTER))
    assert not list((wheel.directory / "secrets/dkim").glob("default._domainkey.wheel.example.*"))
    after = publish(world, wheel)
    changed = {name: value for name, value in after.items() if before.get(name) != value}
    assert changed == {"default._domainkey.wheel.example": "v=DKIM1; p="}
    wheel.build(wheel.environment)
    assert wheel.status()["well"]
    assert [one["state"] for one in wheel.status()["keys_beside"]] == ["revoked"]
    assert [one["record"] for one in keys(wheel.directory, wheel.environment)[0]] == [
        f"{life.read(steps.directory, 'default')[DOMAINS[0]].signing}._domainkey.wheel.example"
    ]
    assert said_by(rotate.retire, steps) == "no key waits to be retired"


# A child that ends, as by SIGKILL, before the given change to the site's secrets or its compose.yaml.
KILLED = """
import os, sys
from pathlib import Path
left = int(sys.argv[1])
def hook(event, arguments):
    global left
    if event in {"os.rename", "os.link", "os.remove"} and any(
        part in str(arguments) for part in ("secrets/dkim", "compose.yaml")
    ):
        left -= 1
        if left < 0:
            os._exit(9)
from mailstack.tasks import rotate
from datetime import UTC, datetime, timedelta
moment = datetime.fromisoformat(sys.argv[5])
site = rotate.Rotation(Path(sys.argv[2]), dict(os.environ), sys.argv[3], now=lambda: moment)
sys.addaudithook(hook)
getattr(rotate, sys.argv[4])(site, force=True) if sys.argv[4] != "new" else rotate.new(site)
"""


def killed(steps: rotate.Rotation, verb: str, at: int) -> bool:
    """Whether a step was killed before its change of that number; False: it came to its end."""
    arguments = [str(at), str(steps.directory), steps.prefix, verb, steps.now().isoformat()]
    environment = {**os.environ, **steps.environment}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode in {0, 9}, done.stderr
    return done.returncode == 9


@pytest.mark.parametrize(
    ("verb", "ends"), [("new", "spare"), ("rotate", "switched"), ("retire", "revoked")], ids=["new", "rotate", "retire"]
)
def test_killed_and_repeated(verb: str, ends: str, wheel: Site, steps: rotate.Rotation) -> None:
    """A step that is killed before any of its changes ends as one that is not, when it is repeated."""
    at = 0
    while killed(steps, verb, at):
        # Whatever is there can be built, and some key signs.
        stack, _ = load_stack(wheel.directory, wheel.environment)
        assert len(stack.keys.signers) == 1
        at += 1
    assert at >= 1
    if verb == "rotate":
        assert state(steps) == ends
        wheel.up()
        rotate.auto(steps)
        assert state(steps) == "retiring"
    else:
        assert state(steps) == ends
    there = {one.name for one in Path(wheel.directory, "secrets/dkim").glob("*.pem")}
    assert len(there) == (1 if verb == "retire" else 2)
