"""The resolver: what it says when nothing can be validated or nobody answers, and how soon it asks again who was silent."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future

import docker
import pytest

from integration.breaking.silence import answer, publish
from integration.breaking.test_health import wait_healthy
from integration.faults import Faults, failing_server
from mailstack.services import SERVICE_NAMES
from mailstack.world.containers import Machine, wait_for
from mailstack.world.internet import Internet
from mailstack.world.site import Site
from place import EDGE
from support import address_of, message, send

FORWARDERS = (EDGE[3], EDGE[4])
NOTICED_WITHIN = 30.0
# Of the Internet's root, not of the world's.
ANCHOR = ". DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D"


@pytest.fixture(scope="module")
def machines(world: Internet) -> Iterator[list[Machine]]:
    publish(world)
    with contextlib.ExitStack() as started:
        yield [
            started.enter_context(failing_server(world, f"forwarder-{at}", address))
            for at, address in enumerate(FORWARDERS)
        ]


@pytest.fixture
def forwarders(machines: list[Machine]) -> Iterator[list[Faults]]:
    faults = [Faults(machine) for machine in machines]
    for one in faults:
        one.clear()
    yield faults
    for one in faults:
        one.clear()


@contextlib.contextmanager
def resolver(site: Site, override: str = "", **settings: str) -> Iterator[None]:
    """A site whose resolver has other settings, and then its own again."""
    original, file = site.environment, site.directory / "overrides/resolver/unbound.conf"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(override)
    try:
        site.build(original | {f"MAILSTACK_RESOLVER_{name}": value for name, value in settings.items()})
        site.compose("up", "--detach", "--no-deps", "resolver")
        yield
    finally:
        file.unlink()
        site.build(original)
        site.up()


def said(site: Site, client: docker.DockerClient) -> tuple[str, str]:
    """The resolver's health, and what its last check said."""
    health = client.api.inspect_container(site.container("resolver"))["State"]["Health"]
    return health["Status"], health["Log"][-1]["Output"] if health["Log"] else ""


STRIPPED = {"FORWARDERS": str(FORWARDERS[0])}
# What is wrong: fault of the forwarder, override, settings, and what the check says of it.
CAUSES = {
    "anchor": (None, "", {"TRUST_ANCHORS": ANCHOR}, "not one of MAILSTACK_RESOLVER_TRUST_ANCHORS"),
    "clock behind": (
        None,
        'server:\n  val-override-date: "20200101000000"\n',
        {},
        "not valid yet, or the clock of this",
    ),
    "clock ahead": (None, 'server:\n  val-override-date: "20400101000000"\n', {}, "expired, or the clock of this host"),
    "no signatures": ("strip", "", STRIPPED, "signatures are missing: a forwarder in MAILSTACK_RESOLVER_FORWARDERS"),
    "no keys": ("nodata", "", STRIPPED, "DNSSEC keys are missing: a forwarder in MAILSTACK_RESOLVER_FORWARDERS"),
}


@pytest.mark.parametrize(("fault", "override", "settings", "cause"), CAUSES.values(), ids=CAUSES.keys())
def test_nothing_can_be_validated(
    fault: str | None,
    override: str,
    settings: dict[str, str],
    cause: str,
    foxtrot: Site,
    forwarders: list[Faults],
    outsider: Machine,
    engine_client: docker.DockerClient,
) -> None:
    """The resolver, and it alone, is unhealthy within 30 seconds and says why; mail waits; mended, all is well."""
    if fault:
        forwarders[0].set(fault, "")
    content = message("someone@listed.example", "user@foxtrot.example", cause)
    with resolver(foxtrot, override, **settings):
        wait_for(
            lambda: said(foxtrot, engine_client)[0] == "unhealthy" and cause in said(foxtrot, engine_client)[1],
            "the resolver does not say what is wrong",
            NOTICED_WITHIN,
        )
        states = foxtrot.states()
        assert all(states[one][:2] == ("running", "healthy") for one in SERVICE_NAMES if one != "resolver")
        reply = send(outsider, address_of(foxtrot), "someone@listed.example", "user@foxtrot.example", content)
        assert 400 <= reply.code < 500
    wait_healthy(foxtrot)
    assert said(foxtrot, engine_client) == ("healthy", "")


def test_nobody_answers(foxtrot: Site, forwarders: list[Faults], engine_client: docker.DockerClient) -> None:
    """An outage of others is remarked and is no fault of the resolver, which starts, stays up and is healthy."""
    with resolver(foxtrot, FORWARDERS=str(FORWARDERS[0])):
        wait_healthy(foxtrot)
    forwarders[0].set("silence", "")
    with resolver(foxtrot, FORWARDERS=str(FORWARDERS[0])):
        container = foxtrot.container("resolver")
        expected = (
            "healthy",
            "no name server answers: check the Internet connection and MAILSTACK_RESOLVER_FORWARDERS\n",
        )
        wait_for(
            lambda: said(foxtrot, engine_client) == expected, "it does not say that nobody answers", NOTICED_WITHIN
        )
        forwarders[0].clear()

        def gone() -> bool:
            status, output = said(foxtrot, engine_client)
            assert status == "healthy"
            return output == ""

        wait_for(gone, "it still says that nobody answers", NOTICED_WITHIN)
        assert foxtrot.container("resolver") == container
        assert engine_client.api.inspect_container(container)["RestartCount"] == 0


def test_who_was_silent_is_asked_again(silence: Future[set[str]]) -> None:
    """A forwarder, or a zone's own server, that was silent for two minutes is used as soon as it answers."""
    assert silence.result() <= {"", "SERVFAIL"}


def test_one_of_two_forwarders_is_silent(foxtrot: Site, forwarders: list[Faults]) -> None:
    """Every question has an answer in time, by the other one."""
    with resolver(foxtrot, FORWARDERS=",".join(map(str, FORWARDERS))):
        wait_for(lambda: answer(foxtrot, "asked.example") == "NOERROR", "the resolver does not answer")
        forwarders[0].set("silence", "")
        assert [answer(foxtrot, "asked.example") for _ in range(15)] == ["NOERROR"] * 15
