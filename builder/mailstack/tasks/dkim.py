"""The DKIM keys of a site: what there is, and keys that were made elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mailstack.errors import DkimKeyError
from mailstack.keys import dkim, life, others
from mailstack.settings.load import read_settings
from mailstack.settings.model import PREFIX
from mailstack.tasks import written
from mailstack.tasks.load import load_stack, unused_keys
from mailstack.values import mail


def keys(directory: Path, environment: Mapping[str, str]) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Each key on disk as plain data, with warnings: its record's name, its file, what it is used for.

    Raises as load_stack() does.
    """
    stack, warnings = load_stack(directory, environment)
    signing, published = stack.keys.signing, stack.keys.published
    known = {one.key.path: one.key for one in published}
    rows = []
    for path in sorted(stack.keys.on_disk):
        key = known.get(path)
        rows.append(
            {
                "record": path.stem,
                "file": str(path),
                "bits": key and key.bits,
                "signs_for": [one.domain for one in signing if one.key.path == path],
                "published_for": list(dict.fromkeys(one.domain for one in published if one.key.path == path)),
            }
        )
    return rows, warnings


@dataclass(frozen=True)
class Imported:
    """A key that was taken, and whether it was there before."""

    key: dkim.DkimKey
    source: Path
    new: bool


def bring(
    directory: Path, environment: Mapping[str, str], path: Path, domain: str | None, selector: str | None
) -> tuple[list[Imported], list[str]]:
    """Take the keys of a file or directory of another program; those taken, and what is to be done to sign with them.

    domain and selector are for keys of which files do not say them. All are checked before one is written. Raises
    DkimKeyError for one that cannot be used, whose name another one has, or of which domain or selector is not known.
    """
    chosen = read_settings(directory, environment)
    found = others.find(path)
    if not found:
        raise DkimKeyError(f"{path}: has no private key in PEM form; name the file or directory with the keys")
    ours = {*chosen.domains, chosen.hostname}
    wanted: dict[Path, tuple[others.Found, dkim.DkimKey]] = {}
    for one in found:
        name, label = _named(one, domain, selector)
        if name not in ours:
            raise DkimKeyError(f"{one.path}: is for {name}, which is no domain of this site; add it to {PREFIX}DOMAINS")
        key = dkim.brought(one.pem, name, label, str(one.path))
        other = wanted.get(key.path)
        if other and other[1].record != key.record:
            raise DkimKeyError(f"{one.path}: is another key for {key.name} than {other[0].path}; name one of them")
        wanted[key.path] = one, key
    gone = life.gone(directory)
    for one, key in wanted.values():
        if key.selector in gone.get(key.domain, ()):
            raise DkimKeyError(f"{one.path}: is for {key.name}, which is revoked or lost here; use another selector")
    with written.locked(directory):
        there = {key.path: _there(directory, one, key) for one, key in wanted.values()}
        for one, key in wanted.values():
            if not there[key.path]:
                dkim.keep(directory, key, one.pem)
    taken = [Imported(key, one.path, not there[key.path]) for one, key in wanted.values()]
    return taken, unused_keys(directory, chosen)


def _named(one: others.Found, domain: str | None, selector: str | None) -> tuple[str, str]:
    name, label = one.domain or domain, one.selector or selector
    missing = [option for option, value in (("--domain", name), ("--selector", label)) if not value]
    if missing or not name or not label:
        raise DkimKeyError(f"{one.path}: does not say for which name it is; add {' and '.join(missing)}")
    try:
        return mail.domain_name(name), mail.selector(label)
    except ValueError as error:
        raise DkimKeyError(f"{one.path}: is for {label}._domainkey.{name}, which {error}") from None


def _there(directory: Path, one: others.Found, key: dkim.DkimKey) -> bool:
    """Whether a site has a key already. Raises DkimKeyError where the name is another one's."""
    if dkim.never_made(directory, key.domain, key.selector):
        return False
    present, _ = dkim.read(directory, key.domain, key.selector)
    if present.record != key.record:
        raise DkimKeyError(
            f"{one.path}: another key is {key.name} here, {directory / key.path}; if that never signed mail, move it "
            "and its .txt away and try again"
        )
    return True
