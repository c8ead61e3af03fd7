"""What the images are built from."""

from collections.abc import Iterator

from mailstack.errors import Fault
from mailstack.settings.checks.refused import Refused, fault
from mailstack.settings.model import PREFIX, Settings


def contradictions(chosen: Settings, refused: Refused) -> Iterator[Fault]:
    if chosen.apt_snapshot and not chosen.apt_mirror and "apt_mirror" not in refused:
        yield fault(
            "apt_snapshot",
            chosen.apt_snapshot,
            f"needs an archive of snapshots; write its URL in {PREFIX}APT_MIRROR, for example: "
            "http://snapshots.example.com/debian",
        )
