"""The base image, where there is no registry to pull it from."""

import os
from collections.abc import Mapping
from pathlib import Path

from mailstack.engine import base, connection, images
from mailstack.settings.load import read_settings
from mailstack.settings.model import PREFIX, Settings
from mailstack.stack.packages import Packages, packages_from


def make_base(directory: Path, environment: Mapping[str, str], *, replace: bool) -> str:
    """Make the base image; a sentence that says what was done."""
    packages = _packages(directory, environment)
    client = connection.connect()
    if not replace and images.exists(client, packages.base_image):
        return f"image {packages.base_image} already exists; use --replace to rebuild it"
    base.make(client, packages)
    return f"image {packages.base_image} was made"


def needs_base(directory: Path, environment: Mapping[str, str]) -> bool:
    """Whether a build would find the base image neither here nor at a registry that answers within seconds."""
    name = _packages(directory, environment).base_image
    client = connection.connect()
    return not images.exists(client, name) and not images.can_be_pulled(client, name)


def _packages(directory: Path, environment: Mapping[str, str]) -> Packages:
    """What images are built from; the settings are optional here."""
    given = [name for name in environment if name.startswith(PREFIX)]
    if given or os.path.lexists(directory / ".env"):
        return packages_from(read_settings(directory, environment))
    return Packages(str(Settings.model_fields["base_image"].default))
