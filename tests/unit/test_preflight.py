"""What is said about an engine that hides its clients' addresses; the engines themselves cannot all be run here."""

from dataclasses import dataclass
from typing import Any

import pytest

from mailstack.engine import preflight


@dataclass
class Engine:
    """The one answer of an engine that counts."""

    answer: dict[str, Any]

    def info(self) -> dict[str, Any]:
        return self.answer


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless"]}, "rootless engine"),
        ({"OperatingSystem": "Docker Desktop", "SecurityOptions": []}, "Docker Desktop"),
        ({"OperatingSystem": "Debian GNU/Linux 13 (trixie)", "SecurityOptions": ["name=cgroupns"]}, None),
        ({"SecurityOptions": None}, None),
    ],
)
def test_engine_that_hides_clients(answer: dict[str, Any], words: str | None) -> None:
    """A rootless engine and Docker Desktop are warned about by name, others are not."""
    found = preflight.warnings(Engine(answer))  # type: ignore[arg-type]
    assert len(found) == (words is not None)
    if words:
        assert words in found[0]
        assert "gateway" in found[0]
