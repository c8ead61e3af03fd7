"""The DKIM keys of a site, in three sets: on disk, published, and those that sign."""

from dataclasses import dataclass
from pathlib import Path

from mailstack.keys import dkim
from mailstack.keys.dkim import DkimKey


@dataclass(frozen=True)
class DomainKey:
    """A key under the name of a domain, which need not be its own: domains may share one."""

    domain: str
    key: DkimKey


@dataclass(frozen=True)
class KeyRing:
    """What signs is published, and what is published is on disk. A key may be on disk alone, or published and not sign.

    Raises ValueError where that does not hold.
    """

    # Private keys, by their paths in the site.
    on_disk: frozenset[Path]
    published: tuple[DomainKey, ...]
    signing: tuple[DomainKey, ...]

    def __post_init__(self) -> None:
        if not {*self.signing} <= {*self.published}:
            raise ValueError("a key signs that is not published")
        if not {one.key.path for one in self.published} <= self.on_disk:
            raise ValueError("a key is published that is not on disk")

    @property
    def signers(self) -> tuple[DkimKey, ...]:
        """The keys that sign, each once."""
        return tuple(dict.fromkeys(one.key for one in self.signing))


def on_disk(directory: Path) -> frozenset[Path]:
    """The private keys that lie in a site, whether they are of use or not."""
    return frozenset(path.relative_to(directory) for path in (directory / dkim.DIRECTORY).glob("*.pem"))
