"""The DKIM keys of a site, in three sets: on disk, published, and those that sign."""

import os
from dataclasses import dataclass
from pathlib import Path

from mailstack.errors import DkimKeyError, os_reason
from mailstack.keys import dkim
from mailstack.keys.dkim import DkimKey
from mailstack.keys.life import State


@dataclass(frozen=True)
class DomainKey:
    """A key under the name of a domain, which need not be its own: domains may share one."""

    domain: str
    key: DkimKey
    # By which others use it; None: its own selector.
    label: str | None = None

    @property
    def selector(self) -> str:
        """The selector in a signature for the domain."""
        return self.label or self.key.selector

    @property
    def name(self) -> str:
        """The record's owner name without the final dot."""
        return f"{self.selector}._domainkey.{self.domain}"


@dataclass(frozen=True)
class Beside:
    """The other key of a domain that has two, and the labels of both, by which other domains use them."""

    key: DkimKey
    label: str
    label_of_signer: str
    state: State
    former: tuple[DkimKey, ...] = ()


@dataclass(frozen=True)
class KeyRing:
    """What signs is published, and what is published is on disk. A key may be on disk alone, or published and not sign.

    Of the latter, spare ones sign later. Of a revoked one the record alone is left.

    Raises ValueError where that does not hold.
    """

    # Private keys, by their paths in the site.
    on_disk: frozenset[Path]
    published: tuple[DomainKey, ...]
    signing: tuple[DomainKey, ...]
    spare: tuple[DomainKey, ...] = ()
    revoked: tuple[DomainKey, ...] = ()
    # Of which even the record is to be gone.
    former: tuple[DkimKey, ...] = ()

    def __post_init__(self) -> None:
        if not {*self.signing} <= {*self.published}:
            raise ValueError("a key signs that is not published")
        if not {*self.spare} <= {*self.published} - {*self.signing}:
            raise ValueError("a spare key is not published, or signs")
        if not {one.key.path for one in self.published} <= self.on_disk:
            raise ValueError("a key is published that is not on disk")

    @property
    def signers(self) -> tuple[DkimKey, ...]:
        """The keys that sign, each once."""
        return tuple(dict.fromkeys(one.key for one in self.signing))


def on_disk(directory: Path) -> frozenset[Path]:
    """The private keys that lie in a site, of use or not. Raises DkimKeyError where nobody can tell."""
    place = directory / dkim.DIRECTORY
    try:
        names = os.listdir(place)  # noqa: PTH208  # glob passes over a directory that it may not read
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except OSError as error:
        raise DkimKeyError(f"{place}: cannot be read: {os_reason(error)}") from None
    return frozenset(dkim.DIRECTORY / name for name in names if name.endswith(".pem"))
