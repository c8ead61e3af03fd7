"""Images: built from rendered contexts, under a tag that is their content's digest."""

import io
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import docker
import docker.errors
import requests

from mailstack.console import progress, warn
from mailstack.errors import EngineError
from mailstack.render import build_context, image_name
from mailstack.tree import Tree

_LOG_TAIL = 20


def connect() -> docker.DockerClient:
    """The engine that the environment names, as the docker command finds it."""
    try:
        client = docker.from_env()
        client.ping()
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise EngineError(
            f"the container engine does not answer ({error}). Start it, and see that 'docker info' works as this user"
        ) from None
    return client


def build_missing(
    client: docker.DockerClient, images: Sequence[str], base_image: str, *, refresh: bool = False
) -> list[str]:
    """Build the images that the engine does not have (all of them with refresh); the names that were built."""
    wanted = {image: image_name(image, base_image) for image in images}
    missing = {image: name for image, name in wanted.items() if refresh or not exists(client, name)}
    if missing:
        _need_base(client, base_image, refresh=refresh)
    for image, name in missing.items():
        build(client, name, build_context(image, base_image), refresh=refresh)
    return list(missing.values())


def build(client: docker.DockerClient, name: str, context: Tree, *, refresh: bool = False) -> None:
    """Build an image from its context; with refresh nothing is taken from earlier builds."""
    started = time.monotonic()
    progress(f"building {name} …")
    try:
        stream = client.api.build(
            fileobj=io.BytesIO(context.tar()),
            custom_context=True,
            tag=name,
            rm=True,
            forcerm=True,
            nocache=refresh,
            decode=True,
        )
        _follow(stream, name)
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise EngineError(f"building {name} failed: {_reason(error)}") from None
    progress(f"built {name} in {time.monotonic() - started:.0f} s")


def exists(client: docker.DockerClient, name: str) -> bool:
    """Whether the engine has an image of this name."""
    try:
        client.images.get(name)
    except docker.errors.ImageNotFound:
        return False
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise EngineError(f"{name}: the engine does not know such a name: {_reason(error)}") from None
    return True


def _need_base(client: docker.DockerClient, base_image: str, *, refresh: bool) -> None:
    """Pull the base image if it is not there; with refresh pull it again, if its registry has it."""
    here = exists(client, base_image)
    if here and not refresh:
        return
    progress(f"pulling {base_image} …")
    try:
        client.images.pull(*_split(base_image))
    except (docker.errors.DockerException, requests.RequestException) as error:
        if not here:
            raise EngineError(
                f"MAILSTACK_BASE_IMAGE: {base_image!r}: is not on this host and cannot be pulled ({_reason(error)}). "
                "Load an image of Debian 13 under this name (docker load, docker import), or name another one"
            ) from None
        warn(f"{base_image} cannot be pulled ({_reason(error)}); the one on this host is used")


def _split(image: str) -> tuple[str, str | None]:
    """Name and tag; a port of the registry is no tag."""
    name, colon, tag = image.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (image, None)


def _follow(stream: Iterator[Mapping[str, Any]], name: str) -> None:
    """Read the engine's progress to its end; a failing step is named with the last lines of its log."""
    lines: list[str] = []
    step = ""
    for event in stream:
        text = str(event.get("stream", "")).rstrip()
        if text.startswith("Step "):
            step, lines = text, []
        elif text:
            lines += text.splitlines()
        if "error" in event:
            log = "\n".join(lines[-_LOG_TAIL:])
            raise EngineError(f"building {name} failed at: {step}\n{log}\n{event['error']}")


def _reason(error: Exception) -> str:
    return str(getattr(error, "explanation", None) or error)
