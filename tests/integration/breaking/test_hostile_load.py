"""Hostile mail by the dozen, while honest mail flows: nobody honest waits, and no service is held up.

HOSTILE_SECONDS says how long; a run of the suite takes half a minute.
"""

import base64
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import docker
import pytest

from mailstack.world.containers import Machine, wait_for
from mailstack.world.internet import Internet
from mailstack.world.site import Site
from place import EDGE
from support import (
    address_of,
    dkim_sign,
    key_record,
    message,
    public_key,
    rsa_key,
    rsa_public,
    send,
    subject,
    subject_of,
)

SECONDS = float(os.environ.get("HOSTILE_SECONDS", "30"))
# No honest message takes longer, from connecting to the last reply; how many are sent in a second, in and out.
PATIENCE, RATE = 5.0, 5
ATTACKER, EVIL = EDGE[44], "hostile.example"
HOSTS = 4


def _key(modulus_bits: int, exponent: int) -> str:
    """The record of an RSA key that nobody has."""
    return key_record(rsa_public((1 << (modulus_bits - 1)) + 1, exponent))


SELECTORS = {
    "modulus": lambda: _key(24576, 65537),
    "exponent": lambda: _key(8192, (1 << 8191) + 1),
    "longest": lambda: _key(8192, (1 << 32) - 1),
    # What just fits into OpenDKIM's buffer, and what does not.
    "eight": lambda: _key(44_000, 3),
    "sixty": lambda: _key(340_000, 3),
}
# Its key fits, and the aliases that lead to it do not fit beside it.
CHAIN = "chain"


@pytest.fixture(scope="module")
def good_key() -> bytes:
    return rsa_key()


@pytest.fixture(scope="module")
def hosts(world: Internet, good_key: bytes) -> Iterator[list[Machine]]:
    """Hosts of the attackers, and all that they publish."""
    names = world.names
    addresses = [EDGE[int(ATTACKER) - int(EDGE[0]) + at] for at in range(HOSTS)]
    # Nothing passes by SPF, so that all signatures are looked at.
    for name in (EVIL, f"bounce.{EVIL}"):
        names.set(name, "A", str(ATTACKER))
    names.set(f"_dmarc.{EVIL}", "TXT", " ".join(['"v=DMARC1; p=reject; "', *[f'"{"x=y; " * 50}"'] * 16]))
    names.set(f"good._domainkey.{EVIL}", "TXT", key_record(public_key(good_key)))
    for selector, record in SELECTORS.items():
        names.set(f"{selector}._domainkey.{EVIL}", "TXT", record())
    aliases = [f"{CHAIN}._domainkey.{EVIL}", *(f"{'.'.join([str(at) * 60] * 3)}.{EVIL}" for at in range(8))]
    for alias, target in itertools.pairwise(aliases):
        names.set(alias, "CNAME", f"{target}.")
    names.set(aliases[-1], "TXT", SELECTORS["eight"]())
    # Records for SPF: ten includes of ten mechanisms each, and terms of absurd length.
    names.set(f"spf.{EVIL}", "A", str(ATTACKER))
    names.set(f"spf.{EVIL}", "TXT", '"v=spf1 ' + " ".join(f"include:i{at}.{EVIL}" for at in range(10)) + ' -all"')
    for at in range(10):
        names.set(
            f"i{at}.{EVIL}",
            "TXT",
            '"v=spf1 ' + " ".join(f"exists:%{{ir}}.%{{l1r-}}.x{at}{more}.{EVIL}" for more in range(4)) + ' ?all"',
        )
    names.publish()
    machines = [world.host(f"hostile-{at}", one) for at, one in enumerate(addresses)]
    yield machines
    for one in machines:
        one.remove()


def _signature(selector: str, tags: bytes = b"", signature: bytes = b"") -> bytes:
    # As long as of the longest key that is used; a longer field is not verified at all.
    made = signature or base64.b64encode(b"\x7f" * 1024)
    return (
        b"DKIM-Signature: v=1; a=rsa-sha256; d=%s; s=%s; c=relaxed/relaxed; h=from:to:subject;%s"
        b" bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=%s\r\n" % (EVIL.encode(), selector.encode(), tags, made)
    )


def _mail(about: str, *, author: str = f"x@{EVIL}", body: str = "A body.\r\n", extra: tuple[str, ...] = ()) -> bytes:
    return message(author, "user@bravo.example", about, body=body, extra=extra)


# What is sent, by envelope sender and content.
Hostile = Callable[[bytes], tuple[str, bytes]]
LONG_NAME = ".".join(["a" * 60] * 4)
HOSTILE: dict[str, Hostile] = {
    **{
        f"a key: {selector}": lambda _, selector=selector: (
            f"x@bounce.{EVIL}",
            _signature(selector) * 5 + _mail("key"),
        )
        for selector in (*SELECTORS, CHAIN)
    },
    "line ends in b=": lambda _: (
        f"x@bounce.{EVIL}",
        _signature("good", signature=b"\r\n ".join([b"A"] * 2700)) * 5 + _mail("line ends"),
    ),
    "line ends in h=": lambda _: (
        f"x@bounce.{EVIL}",
        _signature("good", b" x=" + b"\r\n \t" * 700 + b"y;") * 5 + _mail("h"),
    ),
    "a key with a long name": lambda _: (f"x@bounce.{EVIL}", _signature(LONG_NAME) * 5 + _mail("long name")),
    "twenty good ones": lambda key: (
        f"x@bounce.{EVIL}",
        b"".join(dkim_sign(_mail("twenty"), EVIL, "good", key).partition(b"\r\nFrom: ")[0] + b"\r\n" for _ in range(1))
        * 20
        + _mail("twenty"),
    ),
    "a body of spaces": lambda _: (
        f"x@bounce.{EVIL}",
        _signature("good") + _mail("spaces", body=(" " * 900 + "\r\n") * 10_000),
    ),
    "a body of empty lines": lambda _: (
        f"x@bounce.{EVIL}",
        _signature("good") + _mail("empty lines", body="\r\n" * 2_000_000 + "x\r\n"),
    ),
    "thousands of fields": lambda _: (
        f"x@bounce.{EVIL}",
        _signature("good") + _mail("fields", extra=tuple(f"X-{at}: y" for at in range(10_000))),
    ),
    "a From of quotes and comments": lambda _: (
        f"x@bounce.{EVIL}",
        _mail("From", author='"(' * 10_000 + f" <x@{EVIL}>"),
    ),
    "a From of encoded words": lambda _: (
        f"x@bounce.{EVIL}",
        _mail("From", author="=?utf-8?q?=28?= " * 2_500 + f"<x@{EVIL}>"),
    ),
    "results by the thousand": lambda _: (
        f"x@bounce.{EVIL}",
        _mail("results", extra=("Authentication-Results: mail.bravo.example; dkim=pass",) * 4_000),
    ),
    "an SPF record of macros": lambda _: (f"{'a-' * 30}@spf.{EVIL}", _mail("SPF")),
}


def lives(site: Site, client: docker.DockerClient) -> list[tuple[str, str]]:
    """Since when a site's containers run."""
    containers = [client.containers.get(site.container(service)) for service in site.states()]
    return [(one.id, one.attrs["State"]["StartedAt"]) for one in containers]


class Honest:
    """Sends a message every now and then, and notes how long each took."""

    def __init__(self, machine: Machine, site: Site, sender: str, recipient: str, port: int) -> None:
        self._args = (machine, address_of(site), sender, recipient)
        self._port = port
        self.abouts: list[str] = []
        self.seconds: list[float] = []

    def run(self, ended: threading.Event) -> None:
        machine, host, sender, recipient = self._args
        while not ended.wait(1 / RATE):
            about = subject("honest")
            started = time.monotonic()
            reply = send(machine, host, sender, recipient, message(sender, recipient, about), port=self._port)
            self.seconds.append(time.monotonic() - started)
            assert reply.code == 250, reply
            self.abouts.append(about)


def _attack(machine: Machine, bravo: Site, key: bytes, kinds: list[str], ended: threading.Event) -> dict[str, int]:
    """Send the kinds in turn; how many of each were answered."""
    answered = dict.fromkeys(kinds, 0)
    while not ended.is_set():
        for kind in kinds:
            sender, content = HOSTILE[kind](key)
            send(machine, address_of(bravo), sender, "user@bravo.example", content, helo=f"mx.{EVIL}")
            answered[kind] += 1
            if ended.is_set():
                break
    return answered


def test_hostile_load(
    hosts: list[Machine],
    good_key: bytes,
    outsider: Machine,
    insider: Machine,
    alpha: Site,
    bravo: Site,
    engine_client: docker.DockerClient,
) -> None:
    """Whatever strangers send: every honest message is answered within five seconds, and arrives; nothing is restarted."""
    before = lives(bravo, engine_client)
    inbound = Honest(outsider, bravo, "someone@listed.example", "user@bravo.example", 25)
    outbound = Honest(insider, alpha, "user@alpha.example", "user@bravo.example", 587)
    kinds, ended = list(HOSTILE), threading.Event()
    with ThreadPoolExecutor(HOSTS + 2) as pool:
        honest = [pool.submit(one.run, ended) for one in (inbound, outbound)]
        hostile = [
            pool.submit(_attack, machine, bravo, good_key, kinds[at:] + kinds[:at], ended)
            for at, machine in enumerate(hosts)
        ]
        timer = threading.Timer(SECONDS, ended.set)
        timer.start()
        try:
            for one in honest:
                one.result()
            answered = [one.result() for one in hostile]
        finally:
            ended.set()
            timer.cancel()
    assert {kind for found in answered for kind, number in found.items() if number} == set(kinds)
    for one in (inbound, outbound):
        assert len(one.seconds) > SECONDS  # at least one a second
        assert max(one.seconds) < PATIENCE
    assert lives(bravo, engine_client) == before
    wanted = {*inbound.abouts, *outbound.abouts}

    def missing() -> set[str]:
        return wanted - {subject_of(one) for one in bravo.mail("user@bravo.example")}

    wait_for(lambda: not missing(), "honest mail is lost", seconds=60)
    assert not [line for service in ("dmarc", "policyd-spf") for line in bravo.log(service) if ": worker " in line]
