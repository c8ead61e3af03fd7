"""The key of a domain that signs next: it is made, and its records are published, long before."""

from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

from mailstack.errors import DkimKeyError
from mailstack.keys import dkim, life
from mailstack.keys.life import Life


def make(directory: Path, domains: Collection[str], first: str, bits: int, now: datetime) -> dict[str, Life]:
    """Make a spare key for each domain and write it down; it takes the place of the key beside, if there is one.

    first is the selector of the settings, whose key signs where a domain never had a second. Done again on the same
    day after it was stopped, it takes up keys that were made. Raises DkimKeyError.
    """
    if not domains:
        return {}
    lives, taken = life.read(directory, first), life.selectors(directory)
    made = {}
    for domain in domains:
        selector, there = _selector(domain, {first, *taken.get(domain, ())}, now), lives.get(domain)
        if there:
            dkim.destroy(directory, domain, there.beside)
            made[domain] = there.with_spare(selector, now)
        else:
            key, _ = dkim.read(directory, domain, first)
            since = _made(directory / key.path)
            made[domain] = Life(first=first, signing=first, since=since, beside=selector, state="spare", changed=now)
        dkim.make(directory, domain, selector, bits)
    life.save(directory, made)
    return made


def _selector(domain: str, taken: Collection[str], now: datetime) -> str:
    """The day's, with a letter if the day has another."""
    day = f"s{now:%Y%m%d}"
    names = (f"{day}{letter}" for letter in ("", *"abcdefghijklmnopqrstuvwxyz"))
    for one in names:
        if one not in taken:
            return one
    raise DkimKeyError(f"{domain}: too many keys were made today; try again tomorrow")


def _made(path: Path) -> datetime:
    """When a file was last written."""
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).replace(microsecond=0)
