"""The life of the DKIM keys, in steps that can be repeated: a spare key, verified, switched to, the old one retired.

Each step first writes what holds from now on (keys/life.py), and then does the rest; whoever is stopped in between
repeats the step.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, partial
from pathlib import Path

from mailstack.dns import ask
from mailstack.dns.check import key as key_check
from mailstack.dns.findings import Report, as_text
from mailstack.engine import connection
from mailstack.engine.status import mounted
from mailstack.errors import DkimKeyError, RecordFaultError
from mailstack.keys import dkim, life
from mailstack.keys import spare as spare_key
from mailstack.keys.life import Life
from mailstack.settings.load import read_settings
from mailstack.settings.model import Settings
from mailstack.stack.decide import key_domains
from mailstack.tasks import written
from mailstack.tasks.build import build
from mailstack.tasks.dns_check import DOMAIN_SECONDS
from mailstack.tasks.load import stack_of

# So long the record says that the key is revoked before the next spare key takes its place by itself.
REVOKED_FOR = timedelta(days=30)
DAYS = 90
_SHOWN = 5
_UP = "docker compose up -d --wait"


@dataclass(frozen=True)
class Rotation:
    """What the steps need to know: the site, its variables, a world's compose prefix, and who is told."""

    directory: Path
    environment: Mapping[str, str]
    prefix: str = ""
    say: Callable[[str], None] = lambda _: None
    now: Callable[[], datetime] = life.time_now

    @cached_property
    def settings(self) -> Settings:
        return read_settings(self.directory, self.environment)

    @property
    def lives(self) -> dict[str, Life]:
        return life.read(self.directory, self.settings.dkim_selector)


def new(rotation: Rotation, domain: str | None = None) -> None:
    """Make a spare key for each domain, or one, that has none.

    Raises DkimKeyError while the key before is not retired.
    """
    _prepare(rotation, _domains(rotation, domain))


def rotate(
    rotation: Rotation, domain: str | None = None, *, force: bool = False, resolvers: Sequence[str] = (), port: int = 53
) -> None:
    """Let the spare key of each domain, or one, sign, or make it if there is none.

    Raises RecordFaultError if a name server does not have the key; force switches all the same, and where the key that
    signs is lost, it lets the one before sign again. Raises DkimKeyError while the key before is not retired.
    """
    domains = _domains(rotation, domain)
    back = _take_back(rotation, domains) if force else []
    lives, domains = rotation.lives, [one for one in domains if one not in back]
    for one in domains:
        if one in lives and lives[one].state == "retiring":
            raise DkimKeyError(f"{one}: {lives[one].beside} {lives[one].next_step}")
    _prepare(rotation, [one for one in domains if one not in lives or lives[one].state == "revoked"])
    ready = {one: lives[one].beside for one in domains if one in lives and lives[one].state != "revoked"}
    spare = [one for one in ready if lives[one].state == "spare"]
    unpublished = {} if force else _unpublished(rotation, spare, resolvers, port)
    _switch(rotation, {domain: one for domain, one in ready.items() if domain not in unpublished})
    _complain(unpublished)


def retire(rotation: Rotation, domain: str | None = None, *, force: bool = False) -> None:
    """Revoke the key before of each domain, or one, and destroy its private half.

    Raises DkimKeyError while messages that it signed may be under way, unless force is given, and while it still signs.
    """
    lives = rotation.lives
    domains = [one for one in _domains(rotation, domain) if one in lives]
    _settle(rotation, domains)
    lives = rotation.lives
    for one in domains:
        if lives[one].state == "switched":
            raise DkimKeyError(f"{one}: {lives[one].beside} {lives[one].next_step}")
        if lives[one].state == "retiring" and not force and rotation.now() < lives[one].end:
            raise DkimKeyError(f"{one}: {lives[one].beside} {lives[one].next_step}; --force revokes it now")
    if not any(lives[one].state == "retiring" for one in domains):
        rotation.say("no key waits to be retired")
    _revoke(rotation, [one for one in domains if lives[one].state in {"retiring", "revoked"}])


def auto(rotation: Rotation, days: int = DAYS, *, resolvers: Sequence[str] = (), port: int = 53) -> None:
    """Do the one step of each domain that is due, and nothing else; a key signs for so many days.

    Raises RecordFaultError as rotate() does.
    """
    now, lives, domains = rotation.now(), rotation.lives, _domains(rotation, None)

    def those(state: str, due: Callable[[Life], bool] = lambda _: True) -> list[str]:
        return [one for one in domains if one in lives and lives[one].state == state and due(lives[one])]

    bare = [one for one in domains if one not in lives]
    bare += [one for one in those("spare") if dkim.never_made(rotation.directory, one, lives[one].beside)]
    _prepare(rotation, bare + those("revoked", lambda one: now >= one.changed + REVOKED_FOR))
    _revoke(rotation, those("retiring", lambda one: now >= one.end))
    # One that was stopped after it was written down goes on.
    _settle(rotation, those("switched"))
    _switch(rotation, {one: lives[one].beside for one in those("switched") if rotation.lives[one].state == "switched"})
    ready = [one for one in those("spare", lambda one: now >= one.since + timedelta(days=days)) if one not in bare]
    unpublished = _unpublished(rotation, ready, resolvers, port)
    _switch(rotation, {one: lives[one].beside for one in ready if one not in unpublished})
    _complain(unpublished)


def _domains(rotation: Rotation, domain: str | None) -> list[str]:
    known = list(key_domains(rotation.settings))
    if domain is None:
        return known
    if domain not in known:
        raise DkimKeyError(f"{domain}: has no DKIM key of its own; those that have: {', '.join(known)}")
    return [domain]


def _prepare(rotation: Rotation, domains: Sequence[str]) -> None:
    """Make spare keys and write down that they are there. A key that was made and not written down is taken up."""
    directory, chosen = rotation.directory, rotation.settings
    if not domains:
        return
    with written.locked(directory):
        lives, lacking = rotation.lives, list[str]()
        for domain in domains:
            there = lives.get(domain)
            if there and there.state in {"switched", "retiring"}:
                raise DkimKeyError(f"{domain}: {there.beside} {there.next_step}")
            if there and there.state == "spare" and not dkim.never_made(directory, domain, there.beside):
                rotation.say(f"{domain}: {there.beside} {there.next_step}")
            else:
                lacking.append(domain)
        made = spare_key.make(directory, lacking, chosen.dkim_selector, chosen.dkim_key_bits, rotation.now())
    for domain, one in made.items():
        rotation.say(f"{domain}: {one.beside} is new; it {one.next_step}")


def _unpublished(rotation: Rotation, domains: Sequence[str], resolvers: Sequence[str], port: int) -> dict[str, str]:
    """What is wrong with the records of the spare keys of some domains; nothing where each name server has the key."""
    if not domains:
        return {}
    stack, _ = stack_of(rotation.directory, rotation.settings, rotation.prefix)
    beside, wanted = {one.key for one in stack.keys.published} - {*stack.keys.signers}, set(domains)
    keys = {one for one in beside if one.domain in wanted}
    seconds = ask.SECONDS + DOMAIN_SECONDS * sum(one.key in keys for one in stack.keys.published)
    reports = ask.look(partial(key_check.check, stack=stack, keys=keys), resolvers, port, seconds)
    wrong = {key.domain: one for key, one in reports.items() if one.worst != "fine"}
    return {domain: as_text(Report(one.findings[:_SHOWN]), quiet=True) for domain, one in wrong.items()}


def _complain(unpublished: Mapping[str, str]) -> None:
    """Raises RecordFaultError, with what is wrong for some domains, if there are any."""
    if not unpublished:
        return
    shown = dict(sorted(unpublished.items())[:_SHOWN])
    more = f"{len(unpublished) - len(shown)} more domains\n" if len(shown) < len(unpublished) else ""
    raise RecordFaultError(
        f"the spare key of {', '.join(shown)} does not sign yet, since not every name server is known to have it:\n"
        f"{''.join(shown.values())}{more}Mend that and try again later; --force switches all the same"
    )


def _switch(rotation: Rotation, domains: Mapping[str, str]) -> None:
    """Let spare keys sign, by domain and selector, and build; done again, it goes on where it was stopped."""
    if not domains:
        return
    with written.locked(rotation.directory):
        lives, now = rotation.lives, rotation.now()
        spare = {
            domain: one.switched(now)
            for domain, one in lives.items()
            if one.state == "spare" and domains.get(domain) == one.beside
        }
        for domain, one in spare.items():
            if dkim.never_made(rotation.directory, domain, one.signing):
                missing = dkim.path(domain, one.signing)
                raise DkimKeyError(f"{domain}: {missing} is missing; for another spare key run: mailstack dkim new")
            dkim.read(rotation.directory, domain, one.signing)
        life.save(rotation.directory, spare)
    _build(rotation)
    _settle(rotation, [*domains])
    for domain, one in rotation.lives.items():
        if domain in domains and (domain in spare or one.state == "switched"):
            rotation.say(f"{domain}: {one.signing} signs as soon as OpenDKIM runs this build; run: {_UP}")


def _take_back(rotation: Rotation, domains: Sequence[str]) -> list[str]:
    """Let the key before sign again where the one that signs is lost; these domains."""
    directory = rotation.directory
    with written.locked(directory):
        lives, now = rotation.lives, rotation.now()
        lost = {
            domain: lives[domain].back(now)
            for domain in domains
            if domain in lives
            and lives[domain].state in {"switched", "retiring"}
            and dkim.never_made(directory, domain, lives[domain].signing)
            and not dkim.never_made(directory, domain, lives[domain].beside)
        }
        for domain, one in lost.items():
            dkim.read(directory, domain, one.signing)
        life.save(directory, lost)
    if lost:
        _build(rotation)
    for domain, one in lost.items():
        rotation.say(f"{domain}: {one.signing} signs again as soon as OpenDKIM runs this build; run: {_UP}")
    return list(lost)


def _build(rotation: Rotation) -> None:
    for warning in build(rotation.directory, rotation.environment, prefix=rotation.prefix).warnings:
        rotation.say(f"warning: {warning}")


def _settle(rotation: Rotation, domains: Sequence[str]) -> None:
    """Those whose old key nothing uses any more go on to wait for the messages that it signed."""
    if not domains:
        return
    with written.locked(rotation.directory):
        lives, now, is_used = rotation.lives, rotation.now(), _used(rotation.directory)
        gone = {
            one: lives[one].become("retiring", now)
            for one in domains
            if one in lives and lives[one].state == "switched" and not is_used(dkim.path(one, lives[one].beside))
        }
        life.save(rotation.directory, gone)
    for domain, one in gone.items():
        rotation.say(f"{domain}: {one.beside} {one.next_step}")


def _revoke(rotation: Rotation, domains: Sequence[str]) -> None:
    """Write down that keys are revoked, and then destroy them; done again, it destroys what is left.

    Raises DkimKeyError for a key that signs again, since somebody went back to an earlier build.
    """
    directory = rotation.directory
    if not domains:
        return
    with written.locked(directory):
        lives, now, is_used = rotation.lives, rotation.now(), _used(directory)
        done = {one: lives[one] for one in domains if one in lives and lives[one].state in {"retiring", "revoked"}}
        for domain, one in done.items():
            if is_used(dkim.path(domain, one.beside)):
                raise DkimKeyError(f"{domain}: {one.beside} signs again; run: mailstack build && {_UP}")
            # It may be the last key with which somebody can sign.
            dkim.read(directory, domain, one.signing)
        old = {domain: one.become("revoked", now) for domain, one in done.items() if one.state == "retiring"}
        life.save(directory, old)
        for domain, one in done.items():
            dkim.destroy(directory, domain, one.beside)
    for domain, gone in old.items():
        rotation.say(
            f"{domain}: {gone.beside} is revoked, its private key destroyed; publish its new record (v=DKIM1; p=)"
        )


def _used(directory: Path) -> Callable[[Path], bool]:
    """Whether a private key of the site signs, by its compose.yaml or in a container."""
    named = written.read(directory).keys
    mounts = defaultdict[str, list[str]](list)
    for one in mounted(connection.connect()):
        mounts[Path(one).name].append(one)

    def is_used(file: Path) -> bool:
        path = str((directory / file).resolve())
        # An engine in a virtual machine has the host's files below a directory of its own.
        there = (one.endswith(path) or str(Path(one).resolve()) == path for one in mounts[file.name])
        return str(file) in named or any(there)

    return is_used
