"""What docker compose is asked, without an engine: a docker command stands in that says what the test wants."""

import sys
from pathlib import Path
from typing import Any

import pytest

from mailstack.engine import checker
from mailstack.errors import EngineError, SettingsError
from unit.sites import stack


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose is what the docker command has, even where there is one in this environment."""
    monkeypatch.setattr("sys.prefix", sys.base_prefix)


@pytest.mark.usefixtures("plugin")
def test_no_compose_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A docker without compose is a fault of the host, not of the site's files."""
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho \"docker: 'compose' is not a docker command\" >&2\nexit 1\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "compose.override.yaml").write_text("services: {}\n")
    with pytest.raises(EngineError, match="install the compose plugin"):
        checker.check_compose(tmp_path, b"")


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("said", "words"), [("2.23.3", "the release of docker compose, 2.23.3, is too old"), ("v1.29.2", "too old")]
)
def test_old_compose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, words: str) -> None:
    """A compose that does not know what the files say is named by its release, not as a mistake in them."""
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\ncase "$*" in *version*) echo {said} ;; *) echo "unknown key" >&2; exit 1 ;; esac\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(EngineError, match=words):
        checker.check_compose(tmp_path, b"")
    docker.write_text(docker.read_text().replace(said, "2.24.0"))
    with pytest.raises(SettingsError, match="unknown key"):
        checker.check_compose(tmp_path, b"")


@pytest.mark.parametrize("name", ["compose.override.yml", "docker-compose.override.yaml"])
def test_names_of_the_override(tmp_path: Path, name: str) -> None:
    """Every name counts that docker compose looks for."""
    assert checker.override(tmp_path) is None
    (tmp_path / name).write_text("")
    assert checker.override(tmp_path) == tmp_path / name


def on(network: str, count: int, **options: Any) -> dict[str, Any]:
    """Services as compose shows them: ours, and some of the site's own on a network."""
    ours = {one: {"networks": {"inner": None}} for one in ("opendkim", "policyd-spf", "dmarc")}
    ours["postfix"] = {"networks": {"edge": None, "lookup": None}}
    fixed = {"lookup": {"ipv4_address": "x"}, "inner": {"ipv4_address": "y"}, "edge": None}
    return {**ours, "resolver": {"networks": fixed}} | {
        f"own{at}": {"networks": {network: None}} | options for at in range(count)
    }


@pytest.mark.parametrize(
    ("subnet", "network", "room", "larger"),
    [
        ("10.1.0.0/27", "inner", 0, 26),
        ("10.1.0.0/27", "lookup", 2, 26),
        ("10.1.0.0/27", "edge", 3, 26),
        ("172.30.253.0/25", "inner", 12, 24),
        ("172.30.253.0/25", "lookup", 14, 24),
    ],
)
def test_room_for_containers(subnet: str, network: str, room: int, larger: int) -> None:
    """So many containers of a site's own start; of one more it is said how many addresses lack, and what to write."""
    site = stack(subnet=subnet)
    checker.check_addresses(on(network, room), site)
    with pytest.raises(SettingsError) as caught:
        checker.check_addresses(on(network, room + 1), site)
    said = str(caught.value)
    assert said.startswith(f"MAILSTACK_SUBNET: '{subnet}': has ")
    assert f"network '{network}'" in said
    assert f"own{room} need" in said
    assert f"10.99.0.0/{larger}" in said
    # The remedy.
    checker.check_addresses(on(network, room + 1), stack(subnet=f"10.99.0.0/{larger}"))


@pytest.mark.parametrize("options", [{"scale": 4}, {"deploy": {"replicas": 4}}])
def test_replicas_count(options: dict[str, Any]) -> None:
    """A service with several containers takes as many addresses; one with a fixed address none of the free ones."""
    site = stack(subnet="10.1.0.0/27")
    with pytest.raises(SettingsError, match="own0 need 6"):
        checker.check_addresses(on("edge", 1, **options), site)
    checker.check_addresses(on("edge", 1, **options), stack(subnet="10.1.0.0/26"))


OURS = {"type": "bind", "source": "OURS", "target": "/etc/a"}


@pytest.mark.parametrize(
    ("mounts", "taken"),
    [
        ({"volumes": [OURS]}, True),
        ({"volumes": [OURS, {"type": "bind", "source": "/elsewhere/b", "target": "/etc/b"}]}, True),
        ({"volumes": [OURS], "configs": [{"source": "x"}]}, True),
        ({"volumes": [{"type": "bind", "source": "/elsewhere/a", "target": "/etc/a"}]}, False),
        ({"volumes": [{"type": "volume", "source": "own", "target": "/etc/a"}]}, False),
        ({"volumes": [{"type": "tmpfs", "target": "/etc/a"}]}, False),
        ({"volumes": [OURS], "configs": [{"source": "own", "target": "/etc/a"}]}, False),
        ({}, False),
    ],
)
def test_files_in_place_of_ours(tmp_path: Path, mounts: dict[str, Any], taken: bool) -> None:
    """Whatever else is where a file of ours belongs, or nothing, is refused; a file beside it is not."""
    (tmp_path / "compose.override.yml").touch()
    ours = str(tmp_path / ".mailstack/postfix/x/etc/a")
    text = {key: [{**one, "source": ours} if one == OURS else one for one in ones] for key, ones in mounts.items()}
    own = {"postfix": {"/etc/a": ".mailstack/postfix/x/etc/a"}}
    # A service that the override takes away, by a profile or altogether.
    with pytest.raises(SettingsError, match="in postfix"):
        checker.check_mounts(tmp_path, {}, own)
    if taken:
        checker.check_mounts(tmp_path, {"postfix": text}, own)
    else:
        with pytest.raises(
            SettingsError, match=r"compose\.override\.yml: replaces or removes mailstack's file /etc/a in postfix"
        ):
            checker.check_mounts(tmp_path, {"postfix": text}, own)
