"""The volumes of a site: read while it runs, and created for a restore."""

import contextlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from importlib import resources
from typing import IO, Any, Literal

import docker
import docker.errors
import docker.types

from mailstack.engine import execution, snapshot
from mailstack.engine.connection import Failure, reason
from mailstack.engine.status import LASTING, PROJECT, SERVICE
from mailstack.errors import EngineError

_VOLUME = "com.docker.compose.volume"
# What a restore makes has it, with a word that only that restore knows.
_RESTORED = "mailstack.restored"
_SECONDS = 600
_PLACE = "/kept"


@dataclass(frozen=True)
class Mounted:
    """A volume, or a path of the host, as snapshot.Root reads it."""

    source: str
    kind: Literal["bind", "volume"]
    name: str
    when: str
    files: Mapping[str, int] | None = None


def existing(client: docker.DockerClient, names: Iterable[str]) -> list[str]:
    """Those of these volumes that are there."""
    try:
        return [name for name in names if _is_there(client, name)]
    except Failure as error:
        raise EngineError(f"the engine does not say which volumes it has: {reason(error)}") from None


def _is_there(client: docker.DockerClient, name: str) -> bool:
    try:
        client.volumes.get(name)
    except docker.errors.NotFound:
        return False
    return True


def of_project(client: docker.DockerClient, project: str) -> tuple[list[str], list[str]]:
    """The names of the containers, running or not, and of the volumes that compose has made for a project."""
    label: dict[str, str | list[str] | bool] = {"label": f"{PROJECT}={project}"}
    try:
        containers = client.containers.list(all=True, ignore_removed=True, filters=label)
        volumes = client.volumes.list(filters=label)
    except Failure as error:
        raise EngineError(f"cannot read the state of {project} from the engine: {reason(error)}") from None
    return [str(one.name) for one in containers], [str(one.name) for one in volumes]


@contextlib.contextmanager
def taken(
    client: docker.DockerClient, project: str, image: str, mounts: Sequence[Mounted]
) -> Iterator[Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]]:
    """The files and directories of mounts, one by one. While Postfix runs, it is held for a moment.

    The image has Python. Raises EngineError if not all of them could be read.
    """
    try:
        beside = _postfix(client, project)
        container = _reader(client, project, image, mounts, beside)
        try:
            with execution.attached(client, container) as pieces:
                client.api.start(container)
                output = _Output(pieces)
                yield _members(output)
        except tarfile.TarError:
            # It ended in the middle of a file.
            raise output.failure() from None
        finally:
            _end(client, container)
    except Failure as error:
        raise EngineError(f"the volumes of {project} cannot be read: {reason(error)}") from None


def _postfix(client: docker.DockerClient, project: str) -> str | None:
    """The container of Postfix, if its processes run."""
    labels = [f"{PROJECT}={project}", f"{SERVICE}=postfix", LASTING]
    for one in client.containers.list(filters={"label": labels}, ignore_removed=True):
        if one.status == "restarting":
            raise EngineError("postfix restarts again and again; run: docker compose stop postfix, and try again")
        if one.status == "running":
            return str(one.id)
    return None


def _reader(
    client: docker.DockerClient, project: str, image: str, mounts: Sequence[Mounted], beside: str | None
) -> str:
    """A container that reads them, which the engine removes when it has ended; of each project one at a time.

    A second one would let Postfix go on while the first one copies its queue.
    """
    api: Any = client.api
    roots = [
        {"at": f"{_PLACE}/{at}", "name": one.name, "when": one.when, "files": one.files}
        for at, one in enumerate(mounts)
    ]
    host = api.create_host_config(
        auto_remove=True,
        network_mode="none",
        pid_mode=beside and f"container:{beside}",
        cap_drop=["ALL"],
        # It reads files of any user, and stops Postfix's processes.
        cap_add=["DAC_READ_SEARCH", "KILL"],
        security_opt=["no-new-privileges:true"],
        # What it writes is the archive.
        log_config=docker.types.LogConfig(type="none"),
        mounts=[
            docker.types.Mount(f"{_PLACE}/{at}", one.source, one.kind, read_only=True) for at, one in enumerate(mounts)
        ],
    )
    program = resources.files("mailstack.engine").joinpath("snapshot.py").read_text()
    command = ["-c", program, json.dumps({"hold": beside is not None, "roots": roots})]
    name = f"{project}-backup"
    try:
        made = api.create_container(image, command, name=name, entrypoint=["python3"], user="0", host_config=host)
    except docker.errors.APIError as error:
        if error.status_code != HTTPStatus.CONFLICT:
            raise
        raise EngineError(
            f"another backup of {project} runs; wait for its end. If none does, run: docker rm {name}"
        ) from None
    return str(made["Id"])


def _end(client: docker.DockerClient, container: str) -> None:
    """End what reads. It lets Postfix go on first, so it must not be killed; the engine removes it when it ends."""
    try:
        client.api.kill(container, "TERM")
    except docker.errors.APIError:
        # It has ended, or was never started.
        with contextlib.suppress(docker.errors.APIError):
            client.api.remove_container(container)


class _Output(io.RawIOBase):
    """The stdout of a container as a file."""

    def __init__(self, pieces: Iterator[tuple[bool, bytes]]) -> None:
        super().__init__()
        self._pieces = pieces
        self._rest = b""
        self._said = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401
        while not self._rest:
            try:
                is_stdout, piece = next(self._pieces)
            except StopIteration:
                return 0
            if is_stdout:
                self._rest = piece
            else:
                self._said += piece
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    def failure(self) -> EngineError:
        """Why it ended early, as it wrote to stderr."""
        self._said += b"".join(piece for is_stdout, piece in self._pieces if not is_stdout)
        said = self._said.decode(errors="replace").strip() or "the container that reads them ended early; try again"
        return EngineError(f"the volumes were not read: {said}")


def _members(output: _Output) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    with contextlib.suppress(tarfile.TarError), tarfile.open(fileobj=io.BufferedReader(output), mode="r|") as archive:
        for one in archive:
            if one.name == snapshot.END:
                return
            yield one, archive.extractfile(one) if one.isreg() else None
            # tarfile would remember them all.
            archive.members = []  # type: ignore[attr-defined]
    raise output.failure()


def create(client: docker.DockerClient, project: str, names: Mapping[str, str], word: str) -> None:
    """Make empty volumes as compose would: compose's name of each → the engine's. remove() knows them by the word.

    Raises EngineError for one that somebody else has made meanwhile, such as a second restore of the same backup.
    """
    try:
        for name, real in names.items():
            labels = {PROJECT: project, _VOLUME: name, _RESTORED: word}
            # For a name that exists, the engine answers with that volume, whatever its labels are.
            made = client.volumes.create(real, driver="local", labels=labels)
            if (made.attrs.get("Labels") or {}).get(_RESTORED) != word:
                raise EngineError(
                    f"volume {real} was made by somebody else meanwhile, such as another restore of {project}; it "
                    "stays as it is, and nothing was restored"
                )
    except Failure as error:
        raise EngineError(f"the volumes of {project} cannot be made: {reason(error)}") from None


def filler(client: docker.DockerClient, project: str) -> str | None:
    """The container by which a restore of this project fills its volumes, or did when it was killed."""
    try:
        return str(client.containers.get(_filler(project)).name)
    except docker.errors.NotFound:
        return None
    except Failure as error:
        raise EngineError(f"cannot read the state of {project} from the engine: {reason(error)}") from None


def _filler(project: str) -> str:
    return f"{project}-restore"


def fill(client: docker.DockerClient, project: str, places: Mapping[str, str], content: Iterable[bytes]) -> None:
    """Extract a tar into volumes: path in the tar → volume. The engine does it, by a container that never runs.

    So no image is needed: that of the container is empty, and goes with it.
    """
    api: Any = client.api
    empty = io.BytesIO()
    with tarfile.open(fileobj=empty, mode="w"):
        pass
    try:
        image = json.loads(api.import_image_from_data(empty.getvalue()))["status"]
        try:
            mounts = [docker.types.Mount(f"/{path}", volume, "volume") for path, volume in places.items()]
            host = api.create_host_config(network_mode="none", mounts=mounts)
            container = api.create_container(image, ["none"], name=_filler(project), host_config=host)["Id"]
            try:
                _extract(api, container, content)
            finally:
                api.remove_container(container)
        finally:
            api.remove_image(image)
    except Failure as error:
        raise EngineError(f"the volumes cannot be filled: {reason(error)}") from None


def _extract(api: Any, container: str, content: Iterable[bytes]) -> None:  # noqa: ANN401
    before, api.timeout = api.timeout, _SECONDS
    try:
        api.put_archive(container, "/", content)
    finally:
        api.timeout = before


def remove(client: docker.DockerClient, word: str) -> None:
    """Remove the volumes that create() has made with a word."""
    try:
        for volume in client.volumes.list(filters={"label": f"{_RESTORED}={word}"}):
            volume.remove()
    except Failure as error:
        raise EngineError(f"the volumes that this restore has made cannot be removed: {reason(error)}") from None


def free_space(client: docker.DockerClient) -> int | None:
    """The octets that are free where the engine keeps its volumes; None if that is not on this host."""
    if client.api.base_url != "http+docker://localhost":
        return None
    try:
        root = str(client.info()["DockerRootDir"])
        return shutil.disk_usage(root).free
    except OSError:
        return None
    except Failure as error:
        raise EngineError(f"the engine does not say where it keeps its volumes: {reason(error)}") from None
