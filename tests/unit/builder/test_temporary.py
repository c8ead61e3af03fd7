"""What a world starts is removed, whether or not all of it could be started."""

import pytest

from mailstack.errors import EngineError
from mailstack.world.containers import Temporary


class Two(Temporary):
    """Starts two parts, and fails then if it is to."""

    def __init__(self, *, fails: bool = False) -> None:
        super().__init__()
        self._fails = fails
        self.removed: list[str] = []

    def _start(self) -> None:
        for part in ("first", "second"):
            self._cleanup.callback(self.removed.append, part)
        if self._fails:
            raise EngineError("the third does not start")

    def add(self) -> None:
        self._cleanup.callback(self.removed.append, "later")


def test_removed_at_the_end() -> None:
    """Everything stays until the end, and then goes in the reverse order, with what was added since."""
    with Two() as two:
        two.add()
        assert two.removed == []
    assert two.removed == ["later", "second", "first"]


def test_removed_when_the_start_fails() -> None:
    """What was started before a failure does not stay behind; the failure is what is seen."""
    two = Two(fails=True)
    with pytest.raises(EngineError, match="the third"), two:
        pytest.fail("it is not there")
    assert two.removed == ["second", "first"]
