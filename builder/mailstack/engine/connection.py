"""The engine that the docker command uses: by DOCKER_HOST, else by its context, else the local one."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import docker
import docker.errors
import docker.tls
import requests

from mailstack.errors import EngineError

Client = docker.DockerClient
Failure = (docker.errors.DockerException, requests.RequestException)
_LOCAL = "unix:///var/run/docker.sock"


@dataclass(frozen=True)
class Endpoint:
    """Where an engine is: None for address is what the docker SDK takes from the environment.

    name is what a person knows it by, other how to get to the local one.
    """

    name: str
    other: str | None = None
    address: str | None = None
    tls: docker.tls.TLSConfig | bool = False


def endpoint(environment: Mapping[str, str]) -> Endpoint:
    """What the docker command and compose connect to. Raises EngineError for a context that cannot be read.

    DOCKER_HOST comes before DOCKER_CONTEXT, and that before the current context of the configuration file. The SDK
    knows contexts only since 7.2, and takes the local engine for one that does not exist.
    """
    given = environment.get("DOCKER_HOST")
    if given:
        return Endpoint(f"DOCKER_HOST={given}", "unset DOCKER_HOST for the engine of this host")
    # Of a user without a home it is a path that does not exist, and so the local engine; Path's own would raise.
    directory = Path(environment.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker"))  # noqa: PTH111
    name = environment.get("DOCKER_CONTEXT") or _current(directory / "config.json")
    if name in {"", "default"}:
        return Endpoint(_LOCAL)
    context = f"docker context {name!r}"
    other = "run 'docker context use default'"
    if environment.get("DOCKER_CONTEXT"):
        other = "unset DOCKER_CONTEXT"
    try:
        # The directory of a context is named by the digest of its name.
        place = hashlib.sha256(os.fsencode(name)).hexdigest()
        about = json.loads((directory / "contexts/meta" / place / "meta.json").read_bytes())
        found = about["Endpoints"]["docker"]
        address, skip = found.get("Host") or _LOCAL, bool(found.get("SkipTLSVerify"))
        tls = _tls(directory / "contexts/tls" / place / "docker", verify=not skip)
    except FileNotFoundError:
        raise EngineError(f"the {context} does not exist; {other} for the engine of this host") from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, docker.errors.DockerException) as error:
        raise EngineError(f"the {context} cannot be read ({error}); see 'docker context inspect'") from None
    return Endpoint(f"{address} ({context})", f"{other} for the engine of this host", address, tls)


def _current(file: Path) -> str:
    try:
        return str(json.loads(file.read_bytes()).get("currentContext") or "")
    except (OSError, ValueError, AttributeError):
        # As the docker command does: it warns, and uses the local engine.
        return ""


def _tls(directory: Path, *, verify: bool) -> docker.tls.TLSConfig | bool:
    ca, cert, key = (directory / f"{name}.pem" for name in ("ca", "cert", "key"))
    if not directory.is_dir():
        return False
    client = (str(cert), str(key)) if cert.exists() else None
    return docker.tls.TLSConfig(client_cert=client, ca_cert=str(ca) if ca.exists() else None, verify=verify)


def connect() -> docker.DockerClient:
    """A client of the engine that docker compose uses, too. Raises EngineError if it does not answer."""
    found = endpoint(os.environ)
    try:
        if found.address is None:
            # By the environment alone: what the SDK thinks of contexts does not count.
            client = docker.from_env(environment={**os.environ, "DOCKER_CONTEXT": "default"})
        else:
            client = docker.DockerClient(base_url=found.address, tls=found.tls)
        client.ping()
    except (*Failure, ValueError) as error:  # the latter for an address that is none
        raise EngineError(_no_answer(found, str(error))) from None
    return client


def _no_answer(found: Endpoint, text: str) -> str:
    where = f"the container engine at {found.name}"
    if "paramiko" in text:
        return f"{where} cannot be reached by ssh; log in to that host and work there"
    if "PermissionError" in text or "Permission denied" in text:
        return (
            f"{where} may not be used by this user; add the user to the group 'docker' "
            "(sudo usermod -aG docker USER), log in again, and check that 'docker info' works"
        )
    if any(word in text for word in ("FileNotFoundError", "No such file", "refused", "Failed to resolve")):
        remedy = (
            f"{found.other}, or start that one"
            if found.other
            else "start it (systemctl start docker), or install Docker"
        )
        return f"no container engine answers at {found.name}; {remedy}, and check that 'docker info' works"
    return f"{where} does not answer ({text}); check that 'docker info' works as this user"


def reason(error: Exception) -> str:
    """What the engine said, without the library's own words."""
    return str(getattr(error, "explanation", None) or error)
