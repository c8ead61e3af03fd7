"""The command as it is installed from the wheel, outside the checkout."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from integration.conftest import CHECKOUT, MAILSTACK, copy_checkout, run_in, without_settings
from integration.dns_servers import Published, Servers, running
from mailstack.version import version
from unit.dns_site import ZONES, a_stack, world_of
from unit.dns_world import RESOLVER


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the commands of an empty environment in which the wheel was installed."""
    directory = tmp_path_factory.mktemp("wheel")
    wheels, environment = directory / "wheels", directory / "environment"
    # A build leaves its traces in the directory that it builds from.
    source = directory / "source"
    copy_checkout(source)
    # As in an sdist, which has no git; compose.yaml names the version.
    (source / "PKG-INFO").write_text(f"Name: mailstack\nVersion: {version()}\n")
    for command in (
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, source],
        [sys.executable, "-m", "venv", environment],
        [environment / "bin/python", "-m", "pip", "install", "--quiet"],
    ):
        if "install" in command:
            command += [str(one) for one in wheels.glob("*.whl")]
        done = run_in(directory, *map(str, command))
        assert done.returncode == 0, done.stderr
    shutil.rmtree(source)
    return environment / "bin"


def test_the_wheel_renders_the_same(engine: None, installed: Path, tmp_path: Path) -> None:
    """In an empty environment outside the checkout, the command writes the same bytes."""
    said = run_in(tmp_path, str(installed / "mailstack"), "--version").stdout
    assert said == f"mailstack {version()}\n"
    here, there = tmp_path / "here", tmp_path / "there"
    for one in (here, there):
        one.mkdir()
        shutil.copy(CHECKOUT / "env.example", one / ".env")
    first = run_in(here, *MAILSTACK, "build")
    assert first.returncode == 0, first.stderr
    shutil.copytree(here / "secrets", there / "secrets")
    second = run_in(there, str(installed / "mailstack"), "build")
    assert second.returncode == 0, second.stderr
    # The names of the images in compose.yaml are digests of what they are built from, so nothing was to be built.
    assert "0 images built" in second.stderr
    assert second.stdout == first.stdout
    assert _contents(there) == _contents(here)


def _contents(directory: Path) -> dict[str, bytes]:
    found = {path.relative_to(directory).as_posix(): path for path in directory.rglob("*") if path.is_file()}
    assert len(found) > 20
    return {name: path.read_bytes() for name, path in found.items()}


@pytest.fixture
def servers(engine: None, tmp_path: Path) -> Iterator[Servers]:
    with running(tmp_path, ZONES) as found:
        yield found


def test_dns_check_without_an_engine(servers: Servers, installed: Path, tmp_path: Path) -> None:
    """Mailstack dns check needs neither settings nor an engine nor the docker command to say what name servers have."""
    world = world_of(a_stack(), partial(Published, servers))
    there = tmp_path / "anywhere"
    there.mkdir()
    # The docker command is not in PATH, and nothing listens at the engine's address.
    environment = without_settings() | {"PATH": str(installed), "DOCKER_HOST": f"unix://{there}/docker.sock"}
    environment.pop("PYTHONPATH", None)

    def said(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["mailstack", *arguments]
        return subprocess.run(command, cwd=there, env=environment, capture_output=True, text=True, check=False)

    def check() -> subprocess.CompletedProcess[str]:
        with world.served() as port:
            return said("dns", "check", "--domain", "example.com", "--resolver", RESOLVER, "--port", str(port))

    first = check()
    assert first.returncode == 0, first.stderr
    assert first.stderr == ""
    assert "\n0 faults, 0 warnings, " in first.stdout
    world.publish("example.com", "TXT", "v=spf1 ip4:192.0.2.25 +all")
    second = check()
    assert second.returncode == 6
    assert second.stderr == "error: the published records have faults\n"
    assert second.stdout.startswith("fault    example.com TXT: +all lets every host of the Internet send in this name")
    # That there is no engine is seen where one is needed.
    shutil.copy(CHECKOUT / "env.example", there / ".env")
    build = said("build")
    assert build.returncode != 0
    assert "docker.sock" in build.stderr
    assert "Traceback" not in build.stderr
