"""Rendered configuration, shown to the daemon that will read it before any of it is written."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import docker
import docker.types

from mailstack import console
from mailstack.engine.connection import Failure, reason
from mailstack.errors import EngineError, Fault, SettingsError
from mailstack.overrides import DIRECTORY
from mailstack.tree import Tree

# A script of the image: exit status 0, or what is wrong on its output.
_COMMAND = "/usr/local/bin/check-configuration"
CHECKED = ("postfix", "opendkim", "resolver")
_SECONDS = 60


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
            entrypoint=_COMMAND,
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
        raise SettingsError([Fault(where, None, f"{service} does not take it, so nothing was written:\n{said}")])


def override(directory: Path) -> Path | None:
    """The file that docker compose adds to compose.yaml."""
    return next((directory / name for name in _OVERRIDES if (directory / name).exists()), None)


def check_compose(directory: Path, compose: bytes) -> dict[str, dict[str, str]]:
    """Let docker compose read what is to be compose.yaml, with .env and the site's override.

    Returns what each service has mounted from the host below /etc: path in the container → path on the host.
    """
    added = override(directory)
    command = ["docker", "compose", "--project-directory", str(directory), "-f", "-"]
    command += ["-f", str(added)] if added else []
    done = _run([*command, "config", "--format", "json"], compose)
    if done.returncode:
        if _run(["docker", "compose", "version"], b"").returncode:
            raise EngineError("docker has no 'compose' command; install its plugin, 2.24 or newer")
        where = f"{added}, or {directory / '.env'}" if added else str(directory / ".env")
        said = done.stderr.decode(errors="replace").strip()
        raise SettingsError([Fault(where, None, f"docker compose does not take it, so nothing was written:\n{said}")])
    return {
        name: {
            one["target"]: one["source"]
            for one in service.get("volumes", [])
            if one["type"] == "bind" and one["target"].startswith("/etc/")
        }
        for name, service in json.loads(done.stdout)["services"].items()
    }


def _run(command: list[str], given: bytes) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(command, input=given, capture_output=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"docker compose cannot be run ({error}); install its plugin, 2.24 or newer") from None
