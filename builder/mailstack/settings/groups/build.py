"""What the images are built from."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from mailstack.settings.groups.kinds import Group
from mailstack.values import packages, tokens

MAX_AGE = 3650


class Build(Group):
    base_image: Annotated[str, AfterValidator(packages.image)] = Field(
        default="debian:trixie-slim",
        description="The Debian 13 image that all images are built from. Without a registry, 'mailstack base' makes "
        "it.",
        examples=["registry.example.com/debian:trixie-slim"],
    )
    apt_mirror: Annotated[str | None, BeforeValidator(packages.url)] = Field(
        default=None,
        description="The Debian mirror for builds. Security updates come from the same URL with '-security'. "
        "Not set: the mirror of the base image.",
        examples=["http://mirror.example.com/debian"],
    )
    apt_snapshot: Annotated[str | None, BeforeValidator(packages.snapshot)] = Field(
        default=None,
        description="A timestamp, such as 20261101T000000Z, for an APT_MIRROR that is a snapshot archive. Builds get "
        "the packages of that time from MIRROR/TIMESTAMP: the same ones each time.",
        examples=["20261101T000000Z"],
    )
    build_proxy: Annotated[str | None, BeforeValidator(packages.url)] = Field(
        default=None,
        description="The HTTP proxy for Debian's packages during builds.",
        examples=["http://192.0.2.80:3142"],
    )
    image_max_age: Annotated[int, BeforeValidator(tokens.whole_number(1, MAX_AGE, "a number of days"))] = Field(
        default=30,
        description="The age of an image, in days, at which a build starts to warn that security updates are missing.",
        examples=["7"],
    )
