"""Which engine is asked: the one that the docker command asks."""

import hashlib
import json
import os
import pwd
from pathlib import Path

import pytest

from mailstack.engine.connection import connect, endpoint
from mailstack.errors import EngineError

LOCAL = "unix:///var/run/docker.sock"


def context(directory: Path, name: str, host: str, *, current: bool = False) -> dict[str, str]:
    """A context as the docker command writes it; the environment that finds it."""
    place = directory / "contexts/meta" / hashlib.sha256(name.encode()).hexdigest()
    place.mkdir(parents=True)
    about = {"Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": host, "SkipTLSVerify": False}}}
    (place / "meta.json").write_text(json.dumps(about))
    if current:
        (directory / "config.json").write_text(json.dumps({"currentContext": name}))
    return {"DOCKER_CONFIG": str(directory)}


def test_order(tmp_path: Path) -> None:
    """DOCKER_HOST comes before DOCKER_CONTEXT, that before the current context, and without any it is the local one."""
    context(tmp_path, "one", "unix:///one.sock", current=True)
    found = context(tmp_path, "two", "ssh://two.example")
    assert endpoint(found).address == "unix:///one.sock"
    assert endpoint(found | {"DOCKER_CONTEXT": "two"}).address == "ssh://two.example"
    assert endpoint(found | {"DOCKER_CONTEXT": "default"}).name == LOCAL
    given = endpoint(found | {"DOCKER_CONTEXT": "two", "DOCKER_HOST": "tcp://192.0.2.1:2376"})
    assert (given.name, given.address) == ("DOCKER_HOST=tcp://192.0.2.1:2376", None)
    for text in ("{}", '{"currentContext": ""}', "not JSON", "[]"):
        (tmp_path / "config.json").write_text(text)
        assert endpoint(found).name == LOCAL
    # The SDK looks for contexts beside a file that need not exist.
    (tmp_path / "config.json").unlink()
    assert endpoint(found | {"DOCKER_CONTEXT": "two"}).address == "ssh://two.example"


@pytest.mark.parametrize("how", ["DOCKER_CONTEXT", "currentContext"])
def test_engine_of_a_context_that_does_not_answer(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names address and context, and the way back that fits; the local engine is not asked instead."""
    for name, value in context(tmp_path, "away", f"unix://{tmp_path}/no.sock", current=how == "currentContext").items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    if how == "DOCKER_CONTEXT":
        monkeypatch.setenv("DOCKER_CONTEXT", "away")
    remedy = {"DOCKER_CONTEXT": "unset DOCKER_CONTEXT", "currentContext": "run 'docker context use default'"}[how]
    with pytest.raises(EngineError) as caught:
        connect()
    assert f"no container engine answers at unix://{tmp_path}/no.sock (docker context 'away'); {remedy}" in str(
        caught.value
    )


@pytest.mark.parametrize("damage", ["gone", "no JSON", "no endpoint"])
def test_context_that_cannot_be_used(damage: str, tmp_path: Path) -> None:
    """A context without a description, or with half of one, is named; the local engine does not take its place."""
    found = context(tmp_path, "lost", "unix:///x", current=True)
    (meta,) = tmp_path.glob("contexts/meta/*/meta.json")
    if damage == "gone":
        meta.unlink()
    else:
        meta.write_text("{" if damage == "no JSON" else '{"Endpoints": {}}')
    with pytest.raises(EngineError, match=r"docker context 'lost' (does not exist|cannot be read)"):
        endpoint(found)


def test_tls_of_a_context(tmp_path: Path) -> None:
    """The certificates of a context are used for it."""
    found = context(tmp_path, "far", "tcp://192.0.2.1:2376", current=True)
    (place,) = (tmp_path / "contexts/meta").iterdir()
    directory = tmp_path / "contexts/tls" / place.name / "docker"
    directory.mkdir(parents=True)
    for name in ("ca", "cert", "key"):
        (directory / f"{name}.pem").touch()
    tls = endpoint(found).tls
    assert not isinstance(tls, bool)
    assert (tls.ca_cert, tls.cert, tls.verify) == (
        str(directory / "ca.pem"),
        (str(directory / "cert.pem"), str(directory / "key.pem")),
        True,
    )


@pytest.mark.parametrize("given", [{}, {"DOCKER_CONFIG": ""}, {"DOCKER_CONTEXT": "default"}])
def test_a_user_without_a_home(given: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without HOME and an entry in passwd there is no configuration, and so it is the local engine."""

    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert endpoint(given).name == LOCAL
    with pytest.raises(EngineError, match="docker context 'away' does not exist; unset DOCKER_CONTEXT"):
        endpoint(given | {"DOCKER_CONTEXT": "away"})


@pytest.mark.parametrize("name", [b"\xff", b"a\xffb", "ä".encode(), b"\xed\xa0\x80", b"../x", b"x" * 5000])
def test_a_context_of_any_name(name: bytes, tmp_path: Path) -> None:
    """Whatever the environment holds, a context of that name is found, and one that is not there is named."""
    found = {"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": os.fsdecode(name)}
    with pytest.raises(EngineError, match="does not exist; unset DOCKER_CONTEXT"):
        endpoint(found)
    place = tmp_path / "contexts/meta" / hashlib.sha256(name).hexdigest()
    place.mkdir(parents=True)
    (place / "meta.json").write_text(json.dumps({"Endpoints": {"docker": {"Host": "unix:///x"}}}))
    assert endpoint(found).address == "unix:///x"


def test_a_current_context_that_no_name_can_be(tmp_path: Path) -> None:
    """What JSON can hold and a name of a file cannot is an error in words."""
    (tmp_path / "config.json").write_text('{"currentContext": "\\ud800"}')
    with pytest.raises(EngineError, match="cannot be read"):
        endpoint({"DOCKER_CONFIG": str(tmp_path)})
