"""A mistake that has a name."""

from dataclasses import dataclass

from mailstack.dns.findings import Level


@dataclass(frozen=True)
class Mistake:
    """What is wrong with a value, in one sentence, and what to publish in its place; None: nothing is to be changed."""

    level: Level
    code: str
    what: str
    value: str | None
