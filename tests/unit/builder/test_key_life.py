"""mailstack.keys.life and what follows from it: which keys are made, published and sign, from step to step."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from mailstack.cli.app import main
from mailstack.dns import ask
from mailstack.dns.check import key
from mailstack.dns.records import records
from mailstack.errors import DkimKeyError
from mailstack.keys import dkim, life
from mailstack.settings.load import load
from mailstack.tasks import rotate
from mailstack.tasks.check import check as check_site
from mailstack.tasks.dkim import bring
from mailstack.tasks.load import make_secrets, signing_keys, stack_of, unused_keys
from mailstack.values import mail
from unit.dns_mistakes import ADDRESS
from unit.dns_site import check, world_of, wrong
from unit.dns_world import RESOLVER
from unit.sites import environment

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
ONE = {"domains": "example.com", "hostname": "example.com"}
SHARED = {"domains": "example.com,example.net", "hostname": "example.com"}
OWN = SHARED | {"dkim_keys": "per-domain"}
FIRST, SECOND, THIRD = "default", "s20261201", "s20270301"


def a_site(directory: Path, changes: dict[str, str]):
    """A site with its first keys and the spare ones, and what its steps need to know."""
    variables = environment(**{"dkim_key_bits": "1024"} | changes)
    chosen = load(variables)
    make_secrets(directory, chosen, NOW)
    lives = life.read(directory, chosen.dkim_selector)
    # The first key signs since its file is there.
    life.save(directory, {domain: one.model_copy(update={"since": NOW}) for domain, one in lives.items()})
    return rotate.Rotation(directory, variables, now=lambda: NOW)


def step(site: rotate.Rotation, to: str, *domains: str) -> None:
    """One step of some keys, or all, without what it does to containers."""
    lives = {one: row for one, row in life.read(site.directory, FIRST).items() if not domains or one in domains}
    changed = {domain: one.switched(NOW) if to == "switched" else one.become(to, NOW) for domain, one in lives.items()}
    life.save(site.directory, changed)


def published(site: rotate.Rotation) -> dict[str, str]:
    """The DKIM records: the selector of the key, "revoked", or where a CNAME points to."""
    chosen = load(site.environment)
    stack, _ = stack_of(site.directory, chosen)
    keys = {one.key.record: f"key {one.key.selector}" for one in stack.keys.published} | {"v=DKIM1; p=": "revoked"}
    rows = [one for one in records(stack) if "._domainkey." in one.name]
    assert len({one.name for one in rows}) == len(rows)
    return {
        one.name.replace("._domainkey.example", ""): keys[one.value]
        if one.type == "TXT"
        else one.value.replace("._domainkey.example", "").rstrip(".")
        for one in rows
    }


def signing(site: rotate.Rotation) -> list[str]:
    """Domain, selector in its signatures, and the key."""
    stack, _ = stack_of(site.directory, load(site.environment))
    return [f"{one.domain} {one.selector} {one.key.selector}" for one in stack.keys.signing]


def test_one_domain(tmp_path: Path):
    """A key signs and one is beside it; a revoked one is said to be so, until the next takes its place."""
    site = a_site(tmp_path, ONE)
    assert published(site) == {"default.com": "key default", f"{SECOND}.com": f"key {SECOND}"}
    make_secrets(tmp_path, load(site.environment), NOW + timedelta(days=1))
    assert published(site) == {"default.com": "key default", f"{SECOND}.com": f"key {SECOND}"}
    assert signing(site) == ["example.com default default"]
    step(site, "switched")
    assert signing(site) == [f"example.com {SECOND} {SECOND}"]
    assert published(site) == {f"{SECOND}.com": f"key {SECOND}", "default.com": "key default"}
    step(site, "retiring")
    step(site, "revoked")
    dkim.destroy(tmp_path, "example.com", FIRST)
    assert published(site) == {f"{SECOND}.com": f"key {SECOND}", "default.com": "revoked"}
    rotate.new(replace(site, now=lambda: NOW + timedelta(days=90)))
    assert published(site) == {f"{SECOND}.com": f"key {SECOND}", f"{THIRD}.com": f"key {THIRD}"}
    assert unused_keys(tmp_path, load(site.environment)) == []


def test_shared_key(tmp_path: Path):
    """The other domains' records are the same from the first day on: only the first domain's zone changes."""
    site = a_site(tmp_path, SHARED)
    others = {"default.net": "default.com", "default2.net": "default2.com"}
    assert published(site) == others | {
        "default.com": "key default",
        f"{SECOND}.com": f"key {SECOND}",
        "default2.com": f"{SECOND}.com",
    }
    step(site, "switched")
    assert signing(site) == [f"example.com {SECOND} {SECOND}", f"example.net default2 {SECOND}"]
    step(site, "revoked")
    assert published(site) == others | {
        "default.com": "revoked",
        f"{SECOND}.com": f"key {SECOND}",
        "default2.com": f"{SECOND}.com",
    }
    rotate.new(replace(site, now=lambda: NOW + timedelta(days=90)))
    assert published(site) == others | {
        f"{SECOND}.com": f"key {SECOND}",
        "default2.com": f"{SECOND}.com",
        f"{THIRD}.com": f"key {THIRD}",
        "default.com": f"{THIRD}.com",
    }
    step(site, "switched")
    assert signing(site) == [f"example.com {THIRD} {THIRD}", f"example.net default {THIRD}"]


@pytest.mark.parametrize("changes", [ONE, SHARED, OWN], ids=["one domain", "shared", "own"])
def test_dns_check_at_each_step(changes: dict[str, str], tmp_path: Path):
    """What is to be published is right to the check, whole and for the spare key alone; it misses the spare key."""
    site = a_site(tmp_path, changes | {"public_addresses": ADDRESS, "dkim_key_bits": "2048"})
    for now in (NOW, NOW + timedelta(days=90)):
        for state in ("spare", "switched", "retiring", "revoked"):
            if state != "spare":
                step(site, state)
            made, _ = stack_of(tmp_path, load(site.environment))
            world = world_of(made)
            assert wrong(check(world, made)) == []
        for one in life.read(tmp_path, FIRST).items():
            dkim.destroy(tmp_path, one[0], one[1].beside)
        rotate.new(replace(site, now=lambda now=now: now + timedelta(days=90)))
    made, _ = stack_of(tmp_path, load(site.environment))
    spare = sorted({one.key for one in made.keys.published} - {*made.keys.signers}, key=lambda one: one.name)
    world = world_of(made)
    assert [one.worst for one in spare_check(world, made, spare).values()] == ["fine"] * len(spare)
    world.publish(spare[0].name, "TXT")
    found = [one for one in check(world, made).findings if one.level != "fine"]
    assert {one.level for one in found} == {"warning"}
    assert ("missing", spare[0].name) in {(one.code, one.name) for one in found}
    reports = spare_check(world, made, spare)
    assert ("fault", "missing", spare[0].name, "TXT") in wrong(reports[spare[0]])
    assert [one.worst for one in reports.values()] == ["fault", *["fine"] * (len(spare) - 1)]


def spare_check(world, made, keys):
    with world.served() as port:
        return ask.look(partial(key.check, stack=made, keys=keys), [RESOLVER], port)


def test_keys_of_their_own(tmp_path: Path):
    """Each domain's key goes its own way, and no domain points to another."""
    site = a_site(tmp_path, OWN)
    assert published(site) == {f"{one}.{domain}": f"key {one}" for one in (FIRST, SECOND) for domain in ("com", "net")}
    step(site, "switched", "example.net")
    assert signing(site) == ["example.com default default", f"example.net {SECOND} {SECOND}"]
    with pytest.raises(DkimKeyError, match=r"other\.example: has no DKIM key of its own"):
        rotate.new(site, "other.example")


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """They say what happens and what comes next."""
    site = a_site(tmp_path, OWN)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["dkim", *arguments], env=dict(site.environment))
        return done.exit_code, done.stderr

    code, said = run("retire")
    assert (code, said) == (0, "no key waits to be retired\n")
    code, said = run("new", "--domain", "EXAMPLE.net")
    assert (code, said.partition(": publish")[0]) == (0, f"example.net: {SECOND} is the spare key")
    dkim.destroy(tmp_path, "example.net", SECOND)
    code, said = run("new", "--domain", "EXAMPLE.net")
    assert code == 0
    assert re.fullmatch(r"example\.net: s[0-9]{8}a? is new; it is the spare key: publish its records .*\n", said)
    code, said = run("new", "--domain", "other.example")
    assert code == 3
    assert "other.example: has no DKIM key of its own; those that have: example.com, example.net" in said
    for wrong_use in (["--auto", "--force"], ["--auto", "--domain", "example.com"], ["--days", "9"]):
        assert run("rotate", *wrong_use)[0] == 2
    code, said = run("rotate", "--resolver", "127.0.0.1", "--port", "1", "--domain", "example.net")
    assert code != 0
    assert "no resolver answers (127.0.0.1)" in said
    assert life.read(tmp_path, FIRST)["example.net"].state == "spare"


@pytest.mark.parametrize("selector", ["s", "s" * 63, "s" * 62 + "2"])
def test_the_second_label(selector: str, tmp_path: Path):
    """It is a label, and another one, for every selector."""
    a_site(tmp_path, SHARED | {"dkim_selector": selector})
    one = life.read(tmp_path, selector)["example.com"]
    assert len({mail.selector(one.label), mail.selector(one.label_beside)}) == 2


def test_the_same_day(tmp_path: Path):
    """A second key of a day has another name; one that was made and not written down is taken up."""
    dkim.make(tmp_path, "example.com", SECOND, 1024)
    made, _ = dkim.read(tmp_path, "example.com", SECOND)
    site = a_site(tmp_path, ONE)
    assert life.read(tmp_path, FIRST)["example.com"].beside == SECOND
    assert dkim.read(tmp_path, "example.com", SECOND)[0] == made
    step(site, "switched")
    step(site, "revoked")
    rotate.new(site)
    assert life.read(tmp_path, FIRST)["example.com"].beside == f"{SECOND}a"


@pytest.mark.parametrize("state", ["spare", "switched", "retiring"])
def test_new_beside_another(state: str, tmp_path: Path):
    """A spare key stays the one; while the key before is not retired there is no place for another."""
    site = a_site(tmp_path, ONE)
    if state == "spare":
        said = []
        rotate.new(replace(site, say=said.append))
        assert said[0].startswith(f"example.com: {SECOND} is the spare key: publish its records")
        return
    step(site, "switched")
    if state == "retiring":
        step(site, "retiring")
    with pytest.raises(DkimKeyError, match=r"default (may still sign|signs no more)"):
        rotate.new(site)


def test_another_selector_in_the_settings(tmp_path: Path):
    """Who names a selector means that key: what went before rests."""
    site = a_site(tmp_path, ONE)
    step(site, "switched")
    other = load(environment(**ONE, dkim_selector="own"))
    make_secrets(tmp_path, other, NOW)
    stack, _ = stack_of(tmp_path, other)
    assert [one.key.selector for one in stack.keys.published] == ["own", f"{SECOND}a"]
    assert life.read(tmp_path, "own")["example.com"].beside == f"{SECOND}a"
    assert signing(site) == [f"example.com {SECOND} {SECOND}"]


def test_a_spare_key_is_lost(tmp_path: Path):
    """It is said, nothing else stops, it never signs, and another one takes its place."""
    site = a_site(tmp_path, SHARED)
    dkim.destroy(tmp_path, "example.com", SECOND)
    _, warnings = stack_of(tmp_path, load(site.environment))
    assert any(f"{SECOND}._domainkey.example.com.pem is missing" in one for one in warnings)
    assert signing(site) == ["example.com default default", "example.net default default"]
    with pytest.raises(DkimKeyError, match="is missing; for another spare key run: mailstack dkim new"):
        rotate.rotate(site, force=True)
    rotate.new(site)
    assert life.read(tmp_path, FIRST)["example.com"].beside == f"{SECOND}a"
    assert f"{SECOND}a.com" in published(site)


def test_what_another_has_done_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A key is destroyed only if it still is the one that was retired, and only the key that was verified signs."""
    site = a_site(tmp_path, ONE)
    monkeypatch.setattr(rotate, "_used", lambda _: lambda _: False)
    monkeypatch.setattr(rotate, "build", lambda *_, **__: SimpleNamespace(warnings=()))
    rotate._revoke(site, ["example.com"])
    assert dkim.is_made(tmp_path, "example.com", SECOND)
    rotate._switch(site, {"example.com": "another"})
    assert signing(site) == ["example.com default default"]


def test_back_to_an_earlier_build(tmp_path: Path):
    """The key before signs again, so its seven days start again; after it is revoked the build is refused."""
    site = a_site(tmp_path, ONE)
    step(site, "switched")
    step(site, "retiring")
    files = {str(dkim.path("example.com", FIRST))}
    life.signing_again(tmp_path, {"another"}, NOW)
    assert life.read(tmp_path, FIRST)["example.com"].state == "retiring"
    life.signing_again(tmp_path, files, NOW)
    assert life.read(tmp_path, FIRST)["example.com"].state == "switched"
    step(site, "revoked")
    with pytest.raises(DkimKeyError, match="default is revoked, so the earlier build cannot run"):
        life.signing_again(tmp_path, files, NOW)


def test_a_revoked_key_that_is_still_published(tmp_path: Path):
    """The check says so, and what it offers mends it; no record is as good."""
    site = a_site(tmp_path, ONE | {"public_addresses": ADDRESS, "dkim_key_bits": "2048"})
    made, _ = stack_of(tmp_path, load(site.environment))
    (old,) = made.keys.signers
    step(site, "switched")
    step(site, "revoked")
    made, _ = stack_of(tmp_path, load(site.environment))
    world = world_of(made)
    world.publish(old.name, "TXT", old.record)
    report = check(world, made)
    assert wrong(report) == [("fault", "not-revoked", old.name, "TXT")]
    (paste,) = report.findings[0].publish
    for values in ([paste.value], []):
        world.publish(old.name, "TXT", *values)
        assert wrong(check(world, made)) == []


def test_import_of_a_revoked_key(tmp_path: Path):
    """Nobody brings it back under its old name."""
    site = a_site(tmp_path, ONE)
    pem = (tmp_path / dkim.path("example.com", FIRST)).read_bytes()
    step(site, "switched")
    step(site, "revoked")
    dkim.destroy(tmp_path, "example.com", FIRST)
    (tmp_path / "old.pem").write_bytes(pem)
    with pytest.raises(DkimKeyError, match=r"is for default\._domainkey\.example\.com, which is revoked or lost here"):
        bring(tmp_path, site.environment, tmp_path / "old.pem", "example.com", FIRST)


def test_a_key_that_signs_is_lost(tmp_path: Path):
    """No other one is made under its name."""
    site = a_site(tmp_path, ONE)
    step(site, "switched")
    dkim.destroy(tmp_path, "example.com", SECOND)
    for use in (make_secrets, stack_of, signing_keys):
        with pytest.raises(
            DkimKeyError, match=rf"{SECOND}\._domainkey\.example\.com\.pem: is missing, .*Restore the key"
        ):
            use(tmp_path, load(site.environment))


def test_config_check_reads_the_key_that_signs(tmp_path: Path):
    """Not the first one, which may be gone."""
    site = a_site(tmp_path, ONE)
    step(site, "switched")
    step(site, "revoked")
    dkim.destroy(tmp_path, "example.com", FIRST)
    assert any(SECOND in one and "1024 bits" in one for one in check_site(tmp_path, site.environment))
    (tmp_path / dkim.path("example.com", SECOND)).write_bytes(b"damaged")
    with pytest.raises(DkimKeyError, match=SECOND):
        check_site(tmp_path, site.environment)


SELECTOR_IS_NONE = b"""{"default": {"example.com": {"first": "default", "signing": "../x", "since": "2026-12-01T00:00:00Z",
"beside": "s", "state": "spare", "changed": "2026-12-01T00:00:00Z"}}}"""


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"default": {"example.com": {}}}',
        b"\xff",
        SELECTOR_IS_NONE,
        SELECTOR_IS_NONE.replace(b"../x", b"s"),
        SELECTOR_IS_NONE.replace(b"../x", b"x").replace(b"2026", b"9999"),
    ],
)
def test_damaged_file(content: bytes, tmp_path: Path):
    """It is named; nobody guesses which key signs."""
    site = a_site(tmp_path, ONE)
    (tmp_path / life.FILE).write_bytes(content)
    with pytest.raises(DkimKeyError, match=r"life\.json: is damaged: .*restore it from a backup"):
        stack_of(tmp_path, load(site.environment))
