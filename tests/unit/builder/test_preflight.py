"""What is said about engines that are not supported, or need care; the engines themselves cannot all be run here."""

from types import SimpleNamespace
from typing import Any

import pytest

from mailstack.engine import preflight
from mailstack.errors import EngineError

VERSION = {"ApiVersion": "1.41", "Version": "20.10.24"}


def engine(answer: dict[str, Any], **version: Any) -> Any:
    """The two answers of an engine that count."""
    return SimpleNamespace(info=lambda: answer, version=lambda: VERSION | version)


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    monkeypatch.setenv("DOCKER_HOST", "unix:///var/run/docker.sock")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless"]}, ("rootless engine", "gateway")),
        ({"OperatingSystem": "Docker Desktop", "SecurityOptions": []}, ("Docker Desktop", "gateway")),
        ({"SecurityOptions": ["name=userns"]}, ("userns-remap", "without userns-remap")),
        ({"SecurityOptions": ["name=selinux"]}, ("SELinux", "chcon -R -t container_file_t .mailstack secrets")),
        ({"OperatingSystem": "Debian GNU/Linux 13 (trixie)", "SecurityOptions": ["name=cgroupns"]}, None),
        ({"SecurityOptions": None}, None),
    ],
)
def test_engines_that_need_care(answer: dict[str, Any], words: tuple[str, str] | None) -> None:
    """What hides clients, or keeps containers from the site's files, is warned about by name with a remedy."""
    found = preflight.warnings(engine(answer))
    assert len(found) == (words is not None)
    for one in words or ():
        assert one in found[0]


def test_what_is_no_docker() -> None:
    """Another engine that answers like Docker's is named."""
    (said,) = preflight.warnings(engine({}, Components=[{"Name": "Podman Engine"}]))
    assert said.startswith("Podman: ")
    assert preflight.warnings(engine({}, Components=[{"Name": "Engine"}, {"Name": "containerd"}])) == []


@pytest.mark.parametrize("api", ["1.24", "1.40"])
def test_old_engine(api: str) -> None:
    """An engine that is too old ends the build, with its release and the one that is needed."""
    with pytest.raises(EngineError, match=r"release, 19\.03\.1, is too old; install 20\.10 or newer"):
        preflight.warnings(engine({}, ApiVersion=api, Version="19.03.1"))


@pytest.mark.parametrize(("host", "far"), [("tcp://192.0.2.1:2376", True), ("ssh://a.example", True), ("", False)])
def test_engine_of_another_host(host: str, far: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that mounts another host's files is warned about."""
    monkeypatch.setenv("DOCKER_HOST", host)
    found = preflight.warnings(engine({}))
    assert [f"the engine at {host} may be on another host" in one for one in found] == [True] * far
