"""What the engine is like, where that matters for mail."""

import os
from collections.abc import Iterator
from typing import Any

import docker

from mailstack.engine.connection import Failure, endpoint, reason
from mailstack.errors import EngineError

# Of release 20.10.
_OLDEST_API = (1, 41)
_HIDES = (
    "every client appears under the gateway's address, so SPF cannot check clients and none of them is trusted. "
    "Use an engine that keeps client addresses"
)


def warnings(client: docker.DockerClient) -> list[str]:
    """Set-ups that are not supported, or need care, as sentences. Raises EngineError for an engine that is too old."""
    try:
        about, version = client.info(), client.version()
    except Failure as error:
        raise EngineError(f"cannot read the engine's version: {reason(error)}") from None
    api = tuple(int(part) for part in version["ApiVersion"].split("."))
    if api < _OLDEST_API:
        raise EngineError(f"the engine's release, {version['Version']}, is too old; install 20.10 or newer")
    return [*_of_engine(about, version), *_of_place()]


def _of_engine(about: dict[str, Any], version: dict[str, Any]) -> Iterator[str]:
    options = {word for one in about.get("SecurityOptions") or () for word in one.split(",")}
    if "name=rootless" in options:
        yield f"rootless engine: {_HIDES}"
    if "Docker Desktop" in str(about.get("OperatingSystem", "")):
        yield f"Docker Desktop: {_HIDES}"
    if "name=userns" in options:
        yield (
            "userns-remap: root in a container is an ordinary user on this host and cannot read secrets/, so opendkim "
            "and dmarc do not start. Use an engine without userns-remap"
        )
    if "name=selinux" in options:
        yield (
            "SELinux: containers can read only files that have its label. After each build, and before "
            "'docker compose up', run: chcon -R -t container_file_t .mailstack secrets"
        )
    if any("podman" in str(one.get("Name", "")).lower() for one in version.get("Components") or ()):
        yield "Podman: it has the interface of Docker's engine, but mailstack is not tested with it"


def _of_place() -> Iterator[str]:
    address = endpoint(os.environ).address or os.environ.get("DOCKER_HOST") or "unix://"
    if not address.startswith("unix://"):
        yield (
            f"the engine at {address} may be on another host, and containers mount the files of the engine's host. Run "
            "mailstack on that host, or in a directory that both hosts have under the same path"
        )
