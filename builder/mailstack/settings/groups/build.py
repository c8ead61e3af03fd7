"""What the images are built from."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from mailstack.settings.groups.kinds import Group
from mailstack.values import packages, tokens

MAX_AGE = 3650


class Build(Group):
    base_image: Annotated[str, AfterValidator(packages.image)] = Field(
        default="debian:trixie-slim",
        description="The Debian 13 image that all images are built from; 'mailstack base' makes it where there is no "
        "registry.",
        examples=["registry.example.com/debian:trixie-slim"],
    )
    apt_mirror: Annotated[str | None, BeforeValidator(packages.url)] = Field(
        default=None,
        description="Where builds get Debian's packages; security updates come from the same URL with '-security'. "
        "Not set: what the base image names.",
        examples=["http://mirror.example.com/debian"],
    )
    apt_snapshot: Annotated[str | None, BeforeValidator(packages.snapshot)] = Field(
        default=None,
        description="A moment, such as 20261101T000000Z. With it the mirror is an archive of snapshots, and builds get "
        "the packages of that moment from MIRROR/MOMENT: the same ones each time.",
        examples=["20261101T000000Z"],
    )
    build_proxy: Annotated[str | None, BeforeValidator(packages.url)] = Field(
        default=None,
        description="The HTTP proxy through which builds get Debian's packages.",
        examples=["http://192.0.2.80:3142"],
    )
    image_max_age: Annotated[int, BeforeValidator(tokens.whole_number(1, MAX_AGE, "a number of days"))] = Field(
        default=30,
        description="The age of an image, in days, from which on a build warns that it lacks security updates.",
        examples=["7"],
    )
