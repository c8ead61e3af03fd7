"""Rendered configuration, shown to the daemon that will read it before any of it is written."""

import subprocess
from pathlib import Path

import docker

from mailstack import console
from mailstack.engine.images import Failure, reason
from mailstack.errors import EngineError, Fault, SettingsError
from mailstack.overrides import DIRECTORY
from mailstack.tree import Tree

# A script of the image: exit status 0, or what is wrong on its output.
_COMMAND = "/usr/local/bin/check-configuration"
CHECKED = ("postfix", "opendkim", "resolver")
_SECONDS = 60


def check(client: docker.DockerClient, service: str, image: str, tree: Tree, added: list[str]) -> None:
    """Let the daemon of an image read a service's files; added names the overrides that are in them.

    Raises SettingsError with the daemon's words.
    """
    console.progress(f"checking the configuration of {service}")
    try:
        container = client.containers.create(
            image, entrypoint=_COMMAND, command=[], user="0", network_mode="none", cap_drop=["NET_RAW"]
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


def check_compose(directory: Path, compose: bytes) -> None:
    """Let docker compose read what is to be compose.yaml together with the site's compose.override.yaml."""
    override = directory / "compose.override.yaml"
    if not override.exists():
        return
    command = ["docker", "compose", "--project-directory", str(directory), "-f", "-", "-f", str(override)]
    try:
        done = subprocess.run(
            [*command, "config", "--quiet"], input=compose, capture_output=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"docker compose cannot be run ({error}); install its plugin, 2.24 or newer") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise SettingsError(
            [Fault(str(override), None, f"docker compose does not take it, so nothing was written:\n{said}")]
        )
