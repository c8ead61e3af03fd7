"""Values that were refused by themselves, and what is said of the others."""

import difflib
from collections.abc import Mapping, Sequence
from functools import lru_cache

from mailstack.errors import Fault
from mailstack.settings.model import variable

# Tokens that were refused, by the name of their setting; an empty token stands for a setting that is not set.
Refused = Mapping[str, Sequence[str]]
# To compare each name with each of more tokens takes minutes.
_MANY = 100


def fault(setting: str, token: str | None, remedy: str) -> Fault:
    return Fault(variable(setting), token, remedy)


def may_be_meant(name: str, tokens: Sequence[str]) -> bool:
    """Whether one of the refused tokens may have been meant to be this name; of many refused ones, one may always."""
    return len(tokens) > _MANY or "" in tokens or _is_near(name, tuple(tokens))


@lru_cache
def _is_near(name: str, tokens: tuple[str, ...]) -> bool:
    """Whether a token is all but a name, remembered since many addresses have one domain."""
    return bool(difflib.get_close_matches(name, tokens, n=1))
