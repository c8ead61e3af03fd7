"""The base image, where there is no registry to pull it from."""

import os
from collections.abc import Mapping
from pathlib import Path

from mailstack.engine import base, connection, images
from mailstack.settings.load import read_settings
from mailstack.settings.model import PREFIX, Settings
from mailstack.stack.packages import Packages, packages_from


def make_base(directory: Path, environment: Mapping[str, str], *, replace: bool) -> str:
    """Make the base image; a sentence that says what was done. The settings are optional here."""
    given = [name for name in environment if name.startswith(PREFIX)]
    if given or os.path.lexists(directory / ".env"):
        packages = packages_from(read_settings(directory, environment))
    else:
        packages = Packages(str(Settings.model_fields["base_image"].default))
    client = connection.connect()
    if not replace and images.exists(client, packages.base_image):
        return f"image {packages.base_image} already exists; use --replace to rebuild it"
    base.make(client, packages)
    return f"{packages.base_image} is made"
