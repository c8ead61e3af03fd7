"""Images: built from rendered contexts, under a tag that is their content's digest."""

import contextlib
import io
import re
import time
from collections.abc import Container, Iterator, Mapping
from typing import Any

import docker
import docker.errors

from mailstack import console
from mailstack.engine.connection import Failure, reason
from mailstack.errors import EngineError
from mailstack.render.contexts import build_context
from mailstack.settings.model import PREFIX
from mailstack.stack.packages import Packages
from mailstack.tree import Tree
from mailstack.version import version

_LOG_TAIL = 20
# install-packages' exit status when packages could not be fetched (sysexits.h, EX_TEMPFAIL).
_NOT_FETCHED = 75
_STEP = re.compile(r"Step (?P<at>\d+/\d+) : (?P<command>.*)")
# The steps that take time; the others only set a value.
_SHOWN = ("FROM ", "RUN ", "COPY ")
_COMMAND_WIDTH = 70
_REGISTRY_SECONDS = 5
_DAY = 24 * 60 * 60
# Digits of an image's id in its lasting name, as docker shows it.
_ID = 12
_KEPT = 2


def build_missing(
    client: docker.DockerClient,
    names: Mapping[str, str],
    packages: Packages,
    *,
    refresh: bool = False,
) -> list[str]:
    """Build those of some images, by their tags, that the engine does not have (all with refresh); what was built."""
    missing = {image: name for image, name in names.items() if refresh or not _there(client, name)}
    if missing:
        _need_base(client, packages.base_image, refresh=refresh)
    for image, name in missing.items():
        build(client, name, build_context(image, packages), packages, refresh=refresh)
    return list(missing.values())


def exists(client: docker.DockerClient, name: str) -> bool:
    """Whether the engine has an image of this name."""
    try:
        client.images.get(name)
    except docker.errors.ImageNotFound:
        return False
    except Failure as error:
        raise EngineError(f"{name}: the engine rejects this image name: {reason(error)}") from None
    return True


def _there(client: docker.DockerClient, name: str) -> bool:
    """Whether the engine has an image; one that was loaded by its lasting name alone gets the other one too."""
    if exists(client, name):
        return True
    lasting = _lasting(client, name)
    if lasting:
        client.images.get(lasting[0]).tag(*name.split(":"))
    return bool(lasting)


def _lasting(client: docker.DockerClient, name: str) -> list[str]:
    """The lasting names of all images that were built from a context, newest first."""
    repository, _ = split(name)
    try:
        images = client.api.images(name=repository)
    except Failure as error:
        raise EngineError(f"{name}: cannot list the images of the engine: {reason(error)}") from None
    images.sort(key=lambda one: one["Created"], reverse=True)
    return [tag for one in images for tag in one["RepoTags"] or () if tag.startswith(f"{name}-")]


def lasting_name(client: docker.DockerClient, name: str, before: str | None) -> str:
    """A name that no other content ever gets, for the image that a container is to run.

    name is that of its context, which "build --refresh" moves to the newest image. What compose.yaml names (before)
    stays until then, so that a rollback does as well.
    """
    if before and before.startswith(f"{name}-") and exists(client, before):
        return before
    repository, tag = split(name)
    try:
        image = client.images.get(name)
        lasting = f"{tag}-{str(image.id).removeprefix('sha256:')[:_ID]}"
        image.tag(repository, lasting)
    except Failure as error:
        raise EngineError(f"{name}: the engine cannot tag the image: {reason(error)}") from None
    return f"{repository}:{lasting}"


def remove_old(client: docker.DockerClient, name: str, keep: Container[str]) -> None:
    """Remove what earlier refreshes made from a context; the last two stay, and what is kept or used by a container."""
    for one in _lasting(client, name)[_KEPT:]:
        if one not in keep:
            with contextlib.suppress(*Failure):
                client.images.remove(one)


def age(client: docker.DockerClient, name: str) -> int:
    """The days since an image's packages were installed; a later step, or a cached one, makes them no younger."""
    try:
        history = client.images.get(name).history()
    except Failure as error:
        raise EngineError(f"{name}: cannot read the image's age from the engine: {reason(error)}") from None
    installed = [int(layer["Created"]) for layer in history if "install-packages " in layer["CreatedBy"]]
    return int((time.time() - max(installed, default=time.time())) / _DAY)


def age_warnings(ages: Mapping[str, int], limit: int) -> list[str]:
    """A sentence for each image that is older than limit, in days."""
    return [
        f"{PREFIX}IMAGE_MAX_AGE: {name} is {days} days old, more than {limit}, and may lack security updates; "
        "run: mailstack build --refresh && docker compose up -d --wait"
        for name, days in ages.items()
        if days > limit
    ]


def _need_base(client: docker.DockerClient, base_image: str, *, refresh: bool) -> None:
    """Pull the base image if it is not there; with refresh pull it again, if its registry has it."""
    here = exists(client, base_image)
    if here and not refresh:
        return
    console.progress(f"pulling {base_image}")
    try:
        client.images.pull(*split(base_image))
    except Failure as error:
        if not here:
            raise EngineError(
                f"{PREFIX}BASE_IMAGE: {base_image!r}: is not on this host and cannot be pulled ({reason(error)}). "
                "Run 'mailstack base' to make it from Debian's packages, load a Debian 13 image of this name "
                "(docker load), or set the name of another image"
            ) from None
        console.warn(f"{base_image} cannot be pulled ({reason(error)}); the build uses the image on this host")


def can_be_pulled(client: docker.DockerClient, name: str) -> bool:
    """Whether the registry of an image says within seconds that it has it."""
    client.api.timeout = _REGISTRY_SECONDS
    try:
        client.images.get_registry_data(name)
    except Failure:
        return False
    return True


def split(image: str) -> tuple[str, str | None]:
    """Name and tag, or name and digest; a port of the registry is no tag."""
    image, _, digest = image.partition("@")
    name, colon, tag = image.rpartition(":")
    if not colon or "/" in tag:
        name, tag = image, ""
    return name, digest or tag or None


def build(client: docker.DockerClient, name: str, context: Tree, packages: Packages, *, refresh: bool = False) -> None:
    """Build an image from its context; with refresh nothing is taken from earlier builds."""
    started = time.monotonic()
    console.progress(f"building {name}")
    try:
        arguments = {
            "APT_MIRROR": packages.mirror,
            "http_proxy": packages.proxy,
            "https_proxy": packages.proxy,
            "BASE_DIGEST": str(client.images.get(packages.base_image).id),
        }
        stream = client.api.build(
            fileobj=io.BytesIO(context.tar()),
            custom_context=True,
            tag=name,
            rm=True,
            forcerm=True,
            nocache=refresh,
            labels={"org.opencontainers.image.version": version()},
            decode=True,
            buildargs={key: value for key, value in arguments.items() if value},
        )
        _follow(stream, name, packages)
    except Failure as error:
        raise EngineError(f"building {name} failed: {reason(error)}") from None
    console.progress(f"built {name} in {time.monotonic() - started:.0f} s")


def _follow(stream: Iterator[Mapping[str, Any]], name: str, packages: Packages) -> None:
    """Show the engine's steps as they come; a failing one is named with the last lines of its log."""
    lines: list[str] = []
    step, started = "", 0.0
    for event in stream:
        text = str(event.get("stream", "")).rstrip()
        found = _STEP.match(text)
        if "error" in event:
            if step.startswith(_SHOWN):
                console.end_step("failed")
            log = "\n".join(lines[-_LOG_TAIL:])
            raise EngineError(f"building {name} failed at: {step}\n{log}\n{event['error']}\n{_hint(event, packages)}")
        if found or text.startswith("Successfully built"):
            if step.startswith(_SHOWN):
                cached = any("Using cache" in line for line in lines)
                console.end_step("cached" if cached else f"{time.monotonic() - started:.0f} s")
            step, lines, started = found["command"] if found else "", [], time.monotonic()
        elif text:
            lines += text.splitlines()
        if found and found["command"].startswith(_SHOWN):
            command = " ".join(found["command"].split())
            short = command if len(command) <= _COMMAND_WIDTH else command[: _COMMAND_WIDTH - 1] + "…"
            console.begin_step(f"  {found['at']} {short}")


def _hint(event: Mapping[str, Any], packages: Packages) -> str:
    code = event.get("errorDetail", {}).get("code")
    if code == _NOT_FETCHED:
        return not_fetched(packages)
    return (
        f"{PREFIX}BASE_IMAGE: {packages.base_image!r}: check that it is an image of Debian 13; "
        "all images are built from it"
    )


def not_fetched(packages: Packages) -> str:
    """What to look at when Debian's packages could not be fetched."""
    ways = {"APT_MIRROR": packages.mirror, "APT_SNAPSHOT": packages.snapshot, "BUILD_PROXY": packages.proxy}
    used = [f"{PREFIX}{name}: {value!r}" for name, value in ways.items() if value]
    if used:
        remedy = "check that the value is correct and that the server answers"
        return f"Debian's packages could not be fetched with {', '.join(used)}; {remedy}"
    return (
        "Debian's packages could not be fetched; if the Internet cannot be reached directly, set "
        f"{PREFIX}APT_MIRROR or {PREFIX}BUILD_PROXY"
    )
