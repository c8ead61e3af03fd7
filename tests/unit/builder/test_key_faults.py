"""Keys that are lost, damaged, stolen or named twice: the next step is said, and it leads on."""

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from mailstack.cli.app import main
from mailstack.errors import DkimKeyError, RecordFaultError
from mailstack.keys import dkim, life
from mailstack.settings.load import load
from mailstack.tasks import rotate
from mailstack.tasks.dkim import bring
from mailstack.tasks.load import make_secrets, stack_of, unused_keys
from unit.builder.test_key_life import FIRST, NOW, ONE, OWN, SECOND, a_site, signing, step
from unit.dns_mistakes import ADDRESS
from unit.dns_site import check, world_of, wrong
from unit.dns_world import RESOLVER
from unit.sites import environment

DOMAIN = "example.com"


@pytest.fixture(autouse=True)
def without_an_engine(monkeypatch):
    """A build makes and reads the keys alone, and no container has one."""

    def build(directory, variables, prefix):
        make_secrets(directory, load(variables), NOW)
        return SimpleNamespace(warnings=stack_of(directory, load(variables))[1])

    monkeypatch.setattr(rotate, "build", build)
    monkeypatch.setattr(rotate, "_used", lambda _: lambda _: False)


def pem(site, selector):
    return site.directory / dkim.path(DOMAIN, selector)


def state(site):
    one = life.read(site.directory, FIRST)[DOMAIN]
    return one.signing, one.state


@pytest.mark.parametrize("damage", ["missing", "empty", "damaged", "another"])
def test_a_spare_key_that_cannot_be_used(damage, tmp_path):
    """Nothing is written before it was read, so the key that signs goes on."""
    site = a_site(tmp_path, ONE)
    if damage == "missing":
        pem(site, SECOND).unlink()
    else:
        contents = {"empty": b"", "damaged": b"-----BEGIN", "another": pem(site, FIRST).read_bytes()}
        pem(site, SECOND).write_bytes(contents[damage])
    with pytest.raises(DkimKeyError, match=SECOND):
        rotate.rotate(site, force=True)
    assert state(site) == (FIRST, "spare")
    # What the message says.
    pem(site, SECOND).unlink(missing_ok=True)
    pem(site, SECOND).with_suffix(".txt").unlink()
    assert signing(site) == [f"{DOMAIN} {FIRST} {FIRST}"]
    rotate.new(site)
    rotate.rotate(site, force=True)
    assert state(site) == (f"{SECOND}a", "retiring")


@pytest.mark.parametrize("before", ["spare", "switched", "retiring"])
def test_the_key_that_signs_is_lost(before, tmp_path):
    """The other one signs, by the command that the message names; without another one a new selector does."""
    site = a_site(tmp_path, ONE)
    lost, left = (FIRST, SECOND) if before == "spare" else (SECOND, FIRST)
    for one in {"spare": [], "switched": ["switched"], "retiring": ["switched", "retiring"]}[before]:
        step(site, one)
    pem(site, lost).write_bytes(b"")
    with pytest.raises(DkimKeyError, match=r"move this file and its \.txt away, and 'mailstack build' says"):
        rotate.build(tmp_path, site.environment, "")
    pem(site, lost).unlink()
    with pytest.raises(DkimKeyError, match=r"or move .*txt away, and 'mailstack build' says"):
        rotate.build(tmp_path, site.environment, "")
    pem(site, lost).with_suffix(".txt").unlink()
    with pytest.raises(DkimKeyError, match=f"or let {left} sign: mailstack dkim rotate --force"):
        rotate.build(tmp_path, site.environment, "")
    rotate.rotate(site, force=True)
    assert signing(site) == [f"{DOMAIN} {left} {left}"]
    pem(site, left).unlink()
    pem(site, left).with_suffix(".txt").unlink()
    with pytest.raises(DkimKeyError, match="or set another MAILSTACK_DKIM_SELECTOR"):
        rotate.build(tmp_path, site.environment, "")
    rotate.build(tmp_path, environment(**ONE, dkim_selector="own"), "")


@pytest.mark.parametrize("verb", ["retire", "auto"])
def test_the_last_key_stays(verb, tmp_path):
    """No key is destroyed while the one that signs cannot be read."""
    site = a_site(tmp_path, ONE)
    step(site, "switched")
    step(site, "retiring")
    pem(site, SECOND).write_bytes(b"")
    late = replace(site, now=lambda: NOW + timedelta(days=8))
    with pytest.raises(DkimKeyError, match=SECOND):
        getattr(rotate, verb)(late)
    assert pem(site, FIRST).exists()
    assert state(site) == (SECOND, "retiring")


def test_the_first_key_has_the_name_of_a_day(tmp_path):
    """The spare one has another."""
    site = a_site(tmp_path, ONE | {"dkim_selector": SECOND})
    assert life.read(tmp_path, SECOND)[DOMAIN].beside == f"{SECOND}a"
    assert signing(site) == [f"{DOMAIN} {SECOND} {SECOND}"]


def test_no_name_comes_back(tmp_path):
    """Of a revoked or lost key somebody may have the private half, or remember the record."""
    site = a_site(tmp_path, ONE)
    old = pem(site, SECOND).read_bytes()
    for letter in "abc":
        dkim.destroy(tmp_path, DOMAIN, life.read(tmp_path, FIRST)[DOMAIN].beside)
        rotate.new(site)
        assert life.read(tmp_path, FIRST)[DOMAIN].beside == f"{SECOND}{letter}"
    with pytest.raises(DkimKeyError, match=f"the selector {SECOND} is revoked or lost, and no other one may"):
        make_secrets(tmp_path, load(environment(**ONE, dkim_selector=SECOND)), NOW)
    (tmp_path / "old.pem").write_bytes(old)
    for variables in (site.environment, environment(**ONE, dkim_selector="own")):
        with pytest.raises(DkimKeyError, match="is revoked or lost here"):
            bring(tmp_path, variables, tmp_path / "old.pem", DOMAIN, SECOND)


def test_a_lost_key_that_is_still_published(tmp_path):
    """It is a fault as long as its record has a key, however many came after it."""
    site = a_site(tmp_path, ONE | {"public_addresses": ADDRESS, "dkim_key_bits": "2048"})
    made, _ = stack_of(tmp_path, load(site.environment))
    (stolen,) = (one.key for one in made.keys.spare)
    for _ in range(2):
        dkim.destroy(tmp_path, DOMAIN, life.read(tmp_path, FIRST)[DOMAIN].beside)
        rotate.new(site)
    made, _ = stack_of(tmp_path, load(site.environment))
    world = world_of(made)
    world.publish(stolen.name, "TXT", stolen.record)
    assert wrong(check(world, made)) == [("fault", "not-revoked", stolen.name, "TXT")]
    world.publish(stolen.name, "TXT")
    assert wrong(check(world, made)) == []


def test_one_domain_does_not_stop_the_others(tmp_path, monkeypatch):
    """Whose spare key is lost has another one made, which is for later; the other domain's signs."""
    site = a_site(tmp_path, OWN)
    monkeypatch.setattr(rotate, "_unpublished", lambda *_: {})
    dkim.destroy(tmp_path, DOMAIN, SECOND)
    rotate.auto(replace(site, now=lambda: NOW + timedelta(days=91)))
    lives = life.read(tmp_path, FIRST)
    assert (lives[DOMAIN].signing, lives[DOMAIN].beside) == (FIRST, "s20270302")
    assert lives["example.net"].signing == SECOND


def test_a_copy_that_a_killed_command_left(tmp_path):
    """It is destroyed with the key."""
    site = a_site(tmp_path, ONE)
    copy = tmp_path / dkim.DIRECTORY / ".mailstack-abc"
    copy.write_bytes(pem(site, FIRST).read_bytes())
    dkim.destroy(tmp_path, DOMAIN, FIRST)
    assert not copy.exists()


def test_keys_of_another_selector_rest(tmp_path):
    """They are said to be unused while a new key is to take their place, and what would let them sign; then no more."""
    site = a_site(tmp_path, ONE)
    step(site, "switched")
    other = load(environment(**ONE, dkim_selector="own"))
    said = unused_keys(tmp_path, other)
    assert len(said) == 2
    assert all("set MAILSTACK_DKIM_SELECTOR=default; otherwise it may stay" in one for one in said)
    make_secrets(tmp_path, other, NOW)
    assert unused_keys(tmp_path, other) == unused_keys(tmp_path, load(site.environment)) == []


@pytest.mark.parametrize("silent", ["SOA", "NS"])
def test_a_resolver_alone_is_not_believed(silent, tmp_path):
    """Where it names no server that could be asked, the spare key does not sign yet, and the check says so."""
    site = a_site(tmp_path, ONE | {"public_addresses": ADDRESS, "dkim_key_bits": "2048"})
    made, _ = stack_of(tmp_path, load(site.environment))
    world = world_of(made)
    world.failing = {silent}
    with world.served() as port, pytest.raises(RecordFaultError, match="no name server of the zone could be asked"):
        rotate.rotate(site, resolvers=[RESOLVER], port=port)
    assert state(site) == (FIRST, "spare")
    assert ("warning", "unasked", DOMAIN, "NS") in wrong(check(world, made))


def test_a_name_that_steers_the_terminal(tmp_path, monkeypatch):
    """It is printed without that."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old\x1b]0;owned\x07.pem").write_bytes(b"-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n")
    done = CliRunner().invoke(main, ["dkim", "import", str(next(tmp_path.glob("*.pem")))], env=environment(**ONE))
    assert done.exit_code != 0
    assert "\x1b]" not in done.output
    assert "old?]0;owned?.pem" in done.output
