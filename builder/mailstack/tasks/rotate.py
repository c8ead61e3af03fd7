"""The life of the DKIM keys, in steps that can be repeated: a spare key, verified, switched to, the old one retired.

Each step first writes what holds from now on (keys/life.py), and then does the rest; whoever is stopped in between
repeats the step.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from mailstack.dns import ask
from mailstack.dns.check import key as key_check
from mailstack.dns.findings import as_text
from mailstack.engine import connection
from mailstack.engine.status import mounted
from mailstack.errors import DkimKeyError, RecordFaultError
from mailstack.keys import dkim, life
from mailstack.keys.life import Life
from mailstack.settings.load import read_settings
from mailstack.settings.model import Settings
from mailstack.stack.decide import key_domains
from mailstack.tasks import written
from mailstack.tasks.build import build
from mailstack.tasks.load import stack_of

# So long the record says that the key is revoked before the next spare key takes its place by itself.
REVOKED_FOR = timedelta(days=30)
DAYS = 90
_UP = "docker compose up -d --wait"


@dataclass(frozen=True)
class Rotation:
    """What the steps need to know: the site, its variables, and a world's prefix of the compose project."""

    directory: Path
    environment: Mapping[str, str]
    prefix: str = ""
    now: Callable[[], datetime] = lambda: datetime.now(UTC).replace(microsecond=0)

    @property
    def settings(self) -> Settings:
        return read_settings(self.directory, self.environment)


def new(rotation: Rotation, domain: str | None = None) -> list[str]:
    """Make a spare key for each domain, or one, that has none; sentences about each.

    Raises DkimKeyError while the key before is not retired.
    """
    return _prepare(rotation, _domains(rotation, domain))


def rotate(
    rotation: Rotation, domain: str | None = None, *, force: bool = False, resolvers: Sequence[str] = (), port: int = 53
) -> list[str]:
    """Let the spare key of each domain, or one, sign, or make it if there is none; sentences about each.

    Raises RecordFaultError if a name server does not have the key; force switches all the same. Raises DkimKeyError
    while the key before is not retired.
    """
    chosen = rotation.settings
    lives = life.read(rotation.directory, chosen.dkim_selector)
    domains = _domains(rotation, domain)
    bare = [one for one in domains if one not in lives or lives[one].state == "revoked"]
    said = _prepare(rotation, bare)
    ready = [one for one in domains if one not in bare]
    busy = [one for one in ready if lives[one].state == "retiring"]
    if busy:
        raise DkimKeyError(f"{busy[0]}: {lives[busy[0]].beside} {lives[busy[0]].next_step}")
    spare = [one for one in ready if lives[one].state == "spare"]
    if not force:
        _verify(rotation, chosen, spare, resolvers, port)
    return said + _switch(rotation, ready)


def retire(rotation: Rotation, domain: str | None = None, *, force: bool = False) -> list[str]:
    """Revoke the key before of each domain, or one, and destroy its private half; sentences about each.

    Raises DkimKeyError while messages that it signed may be under way, unless force is given, and while it still signs.
    """
    lives = life.read(rotation.directory, rotation.settings.dkim_selector)
    domains = [one for one in _domains(rotation, domain) if one in lives]
    said = _settle(rotation, domains)
    lives = life.read(rotation.directory, rotation.settings.dkim_selector)
    for one in domains:
        if lives[one].state == "switched":
            raise DkimKeyError(f"{one}: {lives[one].beside} {lives[one].next_step}")
        if lives[one].state == "retiring" and not force and rotation.now() < lives[one].end:
            raise DkimKeyError(f"{one}: {lives[one].beside} {lives[one].next_step}; --force revokes it now")
    return said + _revoke(rotation, [one for one in domains if lives[one].state in {"retiring", "revoked"}])


def auto(rotation: Rotation, days: int = DAYS, *, resolvers: Sequence[str] = (), port: int = 53) -> list[str]:
    """Do the one step of each domain that is due, and nothing else; a key signs for so many days.

    Raises RecordFaultError as rotate() does.
    """
    chosen, now = rotation.settings, rotation.now()
    lives = life.read(rotation.directory, chosen.dkim_selector)
    domains = key_domains(chosen)

    def those(state: str, due: Callable[[Life], bool]) -> list[str]:
        return [one for one in domains if one in lives and lives[one].state == state and due(lives[one])]

    bare = [one for one in domains if one not in lives]
    said = _prepare(rotation, bare + those("revoked", lambda one: now >= one.changed + REVOKED_FOR))
    said += _settle(rotation, those("switched", lambda _: True))
    said += _revoke(rotation, those("retiring", lambda one: now >= one.end))
    ready = those("spare", lambda one: now >= one.since + timedelta(days=days))
    _verify(rotation, chosen, ready, resolvers, port)
    return said + _switch(rotation, ready)


def _domains(rotation: Rotation, domain: str | None) -> list[str]:
    known = list(key_domains(rotation.settings))
    if domain is None:
        return known
    if domain not in known:
        raise DkimKeyError(f"{domain}: has no DKIM key of its own; those that have: {', '.join(known)}")
    return [domain]


def _prepare(rotation: Rotation, domains: Sequence[str]) -> list[str]:
    """Make spare keys and then say that they are there. A key that was made and not written down is taken up."""
    directory, chosen, said = rotation.directory, rotation.settings, list[str]()
    if not domains:
        return said
    with written.locked(directory):
        lives, now = life.read(directory, chosen.dkim_selector), rotation.now()
        made = dict[str, Life]()
        for domain in domains:
            there = lives.get(domain)
            if there and there.state == "spare":
                said.append(f"{domain}: {there.beside} {there.next_step}")
                continue
            if there and there.state != "revoked":
                raise DkimKeyError(f"{domain}: {there.beside} {there.next_step}")
            signing = there.signing if there else chosen.dkim_selector
            key, _ = dkim.read(directory, domain, signing)
            if there:
                dkim.destroy(directory, domain, there.beside)
            selector = _selector(domain, {signing, *([there.beside] if there else [])}, now)
            dkim.make(directory, domain, selector, chosen.dkim_key_bits)
            made[domain] = (
                there.with_spare(selector, now)
                if there
                else Life(
                    first=chosen.dkim_selector,
                    signing=signing,
                    since=_made(directory / key.path),
                    beside=selector,
                    state="spare",
                    changed=now,
                )
            )
            said.append(f"{domain}: {selector} is new; it {made[domain].next_step}")
        life.save(directory, made)
    return said


def _selector(domain: str, taken: set[str], now: datetime) -> str:
    """The day's, with a letter if the day has another."""
    day = f"s{now:%Y%m%d}"
    names = (f"{day}{letter}" for letter in ("", *"abcdefghijklmnopqrstuvwxyz"))
    for one in names:
        if one not in taken:
            return one
    raise DkimKeyError(f"{domain}: too many keys were made today; try again tomorrow")


def _verify(rotation: Rotation, chosen: Settings, domains: Sequence[str], resolvers: Sequence[str], port: int) -> None:
    """Raises RecordFaultError unless every authoritative server has the spare key of each domain."""
    if not domains:
        return
    stack, _ = stack_of(rotation.directory, chosen, rotation.prefix)
    beside = {one.key for one in stack.keys.published if one.key.domain in domains} - {*stack.keys.signers}
    for key in sorted(beside, key=lambda one: one.name):
        report = ask.look(partial(key_check.check, stack=stack, key=key), resolvers, port)
        if report.worst != "fine":
            raise RecordFaultError(
                f"{key.name} does not sign yet, since not every name server is known to have it:\n"
                f"{as_text(report, quiet=True)}Mend that and try again later; --force switches all the same"
            )


def _switch(rotation: Rotation, domains: Sequence[str]) -> list[str]:
    """Let spare keys sign, and build; done again, it goes on where it was stopped."""
    directory, first = rotation.directory, rotation.settings.dkim_selector
    if not domains:
        return []
    with written.locked(directory):
        lives, now = life.read(directory, first), rotation.now()
        spare = [one for one in domains if lives[one].state == "spare"]
        life.save(directory, {one: lives[one].switched(now) for one in spare})
    build(directory, rotation.environment, prefix=rotation.prefix)
    lives = life.read(directory, first)
    said = [f"{one}: {lives[one].signing} signs as soon as OpenDKIM runs this build; run: {_UP}" for one in domains]
    return said + _settle(rotation, domains)


def _settle(rotation: Rotation, domains: Sequence[str]) -> list[str]:
    """Those whose old key nothing uses any more go on to wait for the messages that it signed."""
    directory, first = rotation.directory, rotation.settings.dkim_selector
    if not domains:
        return []
    with written.locked(directory):
        lives, now, is_used = life.read(directory, first), rotation.now(), _used(directory)
        gone = {
            one: lives[one].become("retiring", now)
            for one in domains
            if lives[one].state == "switched" and not is_used(dkim.path(one, lives[one].beside))
        }
        life.save(directory, gone)
    return [f"{domain}: {one.beside} {one.next_step}" for domain, one in gone.items()]


def _revoke(rotation: Rotation, domains: Sequence[str]) -> list[str]:
    """Write down that keys are revoked, and then destroy them; done again, it destroys what is left.

    Raises DkimKeyError for a key that signs again, since somebody went back to an earlier build.
    """
    directory, first = rotation.directory, rotation.settings.dkim_selector
    if not domains:
        return []
    with written.locked(directory):
        lives, now, is_used = life.read(directory, first), rotation.now(), _used(directory)
        for one in domains:
            if is_used(dkim.path(one, lives[one].beside)):
                raise DkimKeyError(f"{one}: {lives[one].beside} signs again; run: mailstack build && {_UP}")
        old = {one: lives[one].become("revoked", now) for one in domains if lives[one].state == "retiring"}
        life.save(directory, old)
        for one in domains:
            dkim.destroy(directory, one, lives[one].beside)
    return [
        f"{domain}: {one.beside} is revoked, its private key destroyed; publish its new record: mailstack dns records"
        for domain, one in old.items()
    ]


def _used(directory: Path) -> Callable[[Path], bool]:
    """Whether a private key of the site signs, by its compose.yaml or in a container."""
    named = written.read(directory).keys
    mounts = mounted(connection.connect())

    def is_used(file: Path) -> bool:
        path = str((directory / file).resolve())
        return str(file) in named or any(one.endswith(path) or str(Path(one).resolve()) == path for one in mounts)

    return is_used


def _made(path: Path) -> datetime:
    """When a file was last written."""
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).replace(microsecond=0)
