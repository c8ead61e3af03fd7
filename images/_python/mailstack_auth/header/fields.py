"""The fields of a message's header, as they came."""

from collections.abc import Sequence
from typing import NamedTuple


class Field(NamedTuple):
    """A header field as it came; the value with its folds (CR LF or LF alone) and its leading space."""

    name: bytes
    value: bytes


class Fields(list[Field]):
    """The header fields of a message, as they came and by name."""

    _named: dict[bytes, list[Field]] | None = None

    def named(self, name: bytes) -> Sequence[Field]:
        """Those of a name in lower case; there may be space around theirs. Asked for when all of them are there."""
        if self._named is None:
            self._named = {}
            for one in self:
                self._named.setdefault(one.name.strip().lower(), []).append(one)
        return self._named.get(name, ())
