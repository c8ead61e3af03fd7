"""What images are built from."""

from dataclasses import dataclass

from mailstack.settings.model import Settings


@dataclass(frozen=True)
class Packages:
    """What images are built from: a base image, and where Debian's packages come from (None: what the base names)."""

    base_image: str
    mirror: str | None = None
    snapshot: str | None = None
    proxy: str | None = None


def packages_from(settings: Settings) -> Packages:
    """What a site's images are built from."""
    return Packages(settings.base_image, settings.apt_mirror, settings.apt_snapshot, settings.build_proxy)
