"""The Stack of a directory: its settings, overrides and keys read."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from mailstack.errors import DkimKeyError, SettingsError
from mailstack.keys import authserv_id, dkim, life, relay_login, ring, spare, srs_key
from mailstack.render import overrides
from mailstack.settings import checks
from mailstack.settings.load import read_settings
from mailstack.settings.model import PREFIX, Settings
from mailstack.stack.decide import key_domains, relay_logins_of, stack_from
from mailstack.stack.model import Stack


def load_stack(directory: Path, environment: Mapping[str, str]) -> tuple[Stack, tuple[str, ...]]:
    """The Stack of a directory, with warnings. Raises as stack_of() does, and SettingsError."""
    return stack_of(directory, read_settings(directory, environment))


def is_made(directory: Path, chosen: Settings) -> bool:
    """Whether the secrets are made that no site is without."""
    keys = (dkim.is_made(directory, *one) for one in signing_keys(directory, chosen))
    return all(keys) and authserv_id.is_made(directory)


def signing_keys(directory: Path, chosen: Settings) -> list[tuple[str, str]]:
    """Domain and selector of each key that signs. Raises DkimKeyError as life.read() does, and for a lost one."""
    lives = life.read(directory, chosen.dkim_selector)
    domains = key_domains(chosen)
    for one in domains:
        if one in lives and dkim.never_made(directory, one, lives[one].signing):
            path = directory / dkim.path(one, lives[one].signing)
            other = lives[one].beside
            usable = lives[one].state != "revoked" and not dkim.never_made(directory, one, other)
            instead = (
                f"let {other} sign: mailstack dkim rotate --force" if usable else f"set another {PREFIX}DKIM_SELECTOR"
            )
            raise DkimKeyError(
                f"{path}: is missing, and signs according to {life.FILE}. Restore the key from a backup; or {instead}"
            )
    return [(one, lives[one].signing if one in lives else chosen.dkim_selector) for one in domains]


def keys_beside(directory: Path, chosen: Settings) -> list[tuple[str, str]]:
    """Domain and selector of each other key that is not revoked. Raises DkimKeyError as life.read() does."""
    lives = life.read(directory, chosen.dkim_selector)
    return [(one, lives[one].beside) for one in key_domains(chosen) if one in lives and lives[one].state != "revoked"]


def read(directory: Path, environment: Mapping[str, str]) -> tuple[Settings, dict[str, str]]:
    """Settings and overrides. Raises SettingsError with the faults of both."""
    try:
        chosen = read_settings(directory, environment)
    except SettingsError as error:
        faults = list(error.faults)
        try:
            overrides.read(directory)
        except SettingsError as more:
            faults += more.faults
        raise SettingsError(faults) from None
    return chosen, overrides.read(directory)


def stack_of(directory: Path, chosen: Settings, prefix: str = "") -> tuple[Stack, tuple[str, ...]]:
    """The Stack of settings that were read, with warnings.

    Raises DkimKeyError and SecretError for a secret that is not there or cannot be used.
    """
    warnings = checks.warnings(chosen) + unused_keys(directory, chosen)

    def read_key(domain: str, selector: str) -> dkim.DkimKey:
        key, found = dkim.read(directory, domain, selector)
        warnings.extend(found)
        return key

    def beside_of(domain: str) -> ring.Beside | None:
        one = lives.get(domain)
        if one is None:
            return None
        lost = one.state != "revoked" and dkim.never_made(directory, domain, one.beside)
        if lost:
            again = "; for another one run: mailstack dkim new" if one.state == "spare" else ""
            warnings.append(f"{dkim.path(domain, one.beside)} is missing, so its record revokes it{again}")
        revoked = lost or one.state == "revoked"
        key = dkim.revoked(domain, one.beside) if revoked else read_key(domain, one.beside)
        former = tuple(dkim.revoked(domain, selector) for selector in one.former)
        return ring.Beside(key, one.label_beside, one.label, "revoked" if revoked else one.state, former)

    lives = life.read(directory, chosen.dkim_selector)
    keys = {domain: read_key(domain, selector) for domain, selector in signing_keys(directory, chosen)}
    digest, found = authserv_id.read(directory)
    srs_digest, loose = _srs_key(directory) if chosen.forwards_by_srs else (None, [])
    on_disk = ring.on_disk(directory) | {key.path for key in keys.values()}
    logins = {domain: str(relay_login.path(directory, one)) for domain, one in relay_logins_of(chosen).items()}
    stack = stack_from(
        chosen,
        keys.__getitem__,
        on_disk,
        digest,
        beside_of=beside_of,
        srs_key_digest=srs_digest,
        relay_logins=logins,
        prefix=prefix,
    )
    warnings.extend([*found, *loose])
    return stack, tuple(dict.fromkeys(warnings))


def _srs_key(directory: Path) -> tuple[str, list[str]]:
    """Its digest, with warnings. One that was not made yet, since an alias is new, has none."""
    return srs_key.read(directory) if srs_key.is_made(directory) else ("not made", [])


def make_secrets(directory: Path, chosen: Settings, now: datetime | None = None) -> None:
    """Make the secrets that never were there, a spare key for each DKIM key among them.

    Raises DkimKeyError and SecretError, for those that are there first.
    """
    authserv_id.make(directory)
    keys = signing_keys(directory, chosen)
    missing, gone = {one for one in keys if dkim.never_made(directory, *one)}, life.gone(directory)
    for domain, selector in sorted(missing):
        if selector in gone.get(domain, ()):
            raise DkimKeyError(
                f"{domain}: the key of the selector {selector} is revoked or lost, and no other one may have its name; "
                f"set another {PREFIX}DKIM_SELECTOR"
            )
    if missing:
        authserv_id.read(directory)
        for one in keys:
            if one not in missing:
                dkim.read(directory, *one)
    if chosen.forwards_by_srs:
        srs_key.make(directory)
    for login in relay_logins_of(chosen).values():
        relay_login.make(directory, login)
    for domain, selector in keys:
        dkim.make(directory, domain, selector, chosen.dkim_key_bits)
    lives = life.read(directory, chosen.dkim_selector)
    alone = [domain for domain, _ in keys if domain not in lives]
    spare.make(directory, alone, chosen.dkim_selector, chosen.dkim_key_bits, now or life.time_now())


def unused_keys(directory: Path, chosen: Settings) -> list[str]:
    """A sentence for each key that was brought along and that nothing uses, with the settings that would use it.

    A key that has its record beside it was used once, and rests there; it counts where a new one is to take its place.
    """
    signing = {dkim.path(*one).name for one in signing_keys(directory, chosen)}
    firsts = {dkim.path(*one).name: first for one, first in life.firsts(directory).items()}
    lives = life.read(directory, chosen.dkim_selector)
    used = signing | {dkim.path(one, lives[one].beside).name for one in key_domains(chosen) if one in lives}
    there = {path.name for path in ring.on_disk(directory)}
    new = signing - there
    known = {name for name in there if (directory / dkim.DIRECTORY / name).with_suffix(".txt").exists()}
    rest = there - used if new else there - used - known - firsts.keys()
    return [f"{dkim.DIRECTORY / name} is not used: {_what_uses(name, firsts, chosen)}" for name in sorted(rest)]


def _what_uses(name: str, firsts: Mapping[str, str], chosen: Settings) -> str:
    """What would let a key sign. Of one that had its turn, or has it next, firsts has the selector of the settings."""
    selector, mark, domain = name.removesuffix(".pem").partition("._domainkey.")
    if not mark:
        return "its name does not have the form SELECTOR._domainkey.DOMAIN.pem; rename it, or move it away"
    if domain not in {*chosen.domains, chosen.hostname}:
        return f"{domain} is not a domain of this site; add it to {PREFIX}DOMAINS, or move the key away"
    if selector == chosen.dkim_selector and domain in key_domains(chosen):
        return f"another key of {domain} signs ({life.FILE}); move it away"
    changes, selector = [], firsts.get(name, selector)
    if selector != chosen.dkim_selector:
        changes.append(f"{PREFIX}DKIM_SELECTOR={selector}")
    if domain not in key_domains(chosen):
        changes.append(f"{PREFIX}DKIM_KEYS=per-domain")
    return (
        f"the selector is {chosen.dkim_selector!r} and {PREFIX}DKIM_KEYS is {chosen.dkim_keys!r}. To sign with it, set "
        f"{' and '.join(changes)}; otherwise {'it may stay' if name in firsts else 'move it away'}"
    )
