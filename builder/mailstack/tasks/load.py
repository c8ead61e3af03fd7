"""The Stack of a directory: its settings, overrides and keys read."""

from collections.abc import Mapping
from pathlib import Path

from mailstack.errors import SettingsError
from mailstack.keys import authserv_id, dkim, relay_login, ring, srs_key
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
    keys = (dkim.is_made(directory, domain, chosen.dkim_selector) for domain in key_domains(chosen))
    return all(keys) and authserv_id.is_made(directory)


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

    def key_of(domain: str) -> dkim.DkimKey:
        key, found = dkim.read(directory, domain, chosen.dkim_selector)
        warnings.extend(found)
        return key

    keys = {domain: key_of(domain) for domain in key_domains(chosen)}
    digest, found = authserv_id.read(directory)
    srs_digest, loose = _srs_key(directory) if chosen.forwards_by_srs else (None, [])
    on_disk = ring.on_disk(directory) | {key.path for key in keys.values()}
    logins = {domain: str(relay_login.path(directory, one)) for domain, one in relay_logins_of(chosen).items()}
    stack = stack_from(
        chosen,
        keys.__getitem__,
        on_disk,
        digest,
        srs_key_digest=srs_digest,
        relay_logins=logins,
        prefix=prefix,
    )
    warnings.extend([*found, *loose])
    return stack, tuple(dict.fromkeys(warnings))


def _srs_key(directory: Path) -> tuple[str, list[str]]:
    """Its digest, with warnings. One that was not made yet, since an alias is new, has none."""
    return srs_key.read(directory) if srs_key.is_made(directory) else ("not made", [])


def make_secrets(directory: Path, chosen: Settings) -> None:
    """Make the secrets that never were there. Raises DkimKeyError and SecretError, for those that are there first."""
    authserv_id.make(directory)
    missing = {one for one in key_domains(chosen) if dkim.never_made(directory, one, chosen.dkim_selector)}
    if missing:
        authserv_id.read(directory)
        for domain in key_domains(chosen):
            if domain not in missing:
                dkim.read(directory, domain, chosen.dkim_selector)
    if chosen.forwards_by_srs:
        srs_key.make(directory)
    for login in relay_logins_of(chosen).values():
        relay_login.make(directory, login)
    for domain in key_domains(chosen):
        dkim.make(directory, domain, chosen.dkim_selector, chosen.dkim_key_bits)


def unused_keys(directory: Path, chosen: Settings) -> list[str]:
    """A sentence for each key that was brought along and that nothing uses, with the settings that would use it.

    A key that has its record beside it was used once, and rests there; it counts where a new one is to take its place.
    """
    used = {f"{chosen.dkim_selector}._domainkey.{domain}.pem" for domain in key_domains(chosen)}
    there = {path.name for path in ring.on_disk(directory)}
    new = used - there
    known = {name for name in there if (directory / dkim.DIRECTORY / name).with_suffix(".txt").exists()}
    rest = there - used if new else there - used - known
    return [f"{dkim.DIRECTORY / name} is not used: {_what_uses(name, chosen)}" for name in sorted(rest)]


def _what_uses(name: str, chosen: Settings) -> str:
    selector, mark, domain = name.removesuffix(".pem").partition("._domainkey.")
    if not mark:
        return "its name does not have the form SELECTOR._domainkey.DOMAIN.pem; rename it, or move it away"
    if domain not in {*chosen.domains, chosen.hostname}:
        return f"{domain} is not a domain of this site; add it to {PREFIX}DOMAINS, or move the key away"
    changes = []
    if selector != chosen.dkim_selector:
        changes.append(f"{PREFIX}DKIM_SELECTOR={selector}")
    if domain not in key_domains(chosen):
        changes.append(f"{PREFIX}DKIM_KEYS=per-domain")
    return (
        f"the selector is {chosen.dkim_selector!r} and {PREFIX}DKIM_KEYS is {chosen.dkim_keys!r}. To sign with it, set "
        f"{' and '.join(changes)}; otherwise move it away"
    )
