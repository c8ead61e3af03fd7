"""What is decided about images and containers before or after the engine has its say; stand-ins answer for it."""

from types import SimpleNamespace
from typing import Any

import docker.errors
import pytest

from mailstack.engine import base, execution, images, preflight
from mailstack.engine.status import look
from mailstack.errors import EngineError
from mailstack.stack.packages import Packages


def engine(container_image: str) -> Any:
    """An engine with one image, id "new", and a container of the service postfix that runs an image of some id."""
    container = SimpleNamespace(
        labels={"com.docker.compose.service": "postfix", "mailstack.files": "files"},
        attrs={
            "State": {"Status": "running", "Health": {"Status": "healthy"}},
            "Config": {"Image": "mailstack/postfix:1"},
            "Image": container_image,
        },
        id="a1",
    )
    image = SimpleNamespace(id="new", history=list)
    return SimpleNamespace(
        containers=SimpleNamespace(list=lambda **_: [container]), images=SimpleNamespace(get=lambda _: image)
    )


@pytest.mark.parametrize(("container_image", "current"), [("new", True), ("old", False)])
def test_an_image_that_was_made_anew(monkeypatch: pytest.MonkeyPatch, container_image: str, current: bool) -> None:
    """A container of what "build --refresh" has replaced under the same name is not current."""
    monkeypatch.setattr(execution, "ask", lambda *_: execution.Answer(0, b"", b""))
    (service,), _ = look(engine(container_image), "project", {"postfix": ("mailstack/postfix:1", "files")})
    assert service.current == service.well == current


def test_a_digest_is_no_name_for_an_image_that_is_made() -> None:
    """An engine gives no image a digest; the message names the setting, whatever is installed."""
    with pytest.raises(EngineError, match=r"MAILSTACK_BASE_IMAGE: 'debian@sha256:00': .* with a tag"):
        base.make(engine("new"), Packages("debian@sha256:00"))


def test_a_failed_step_names_the_base_image() -> None:
    """A step that fails for another reason than the network may be the fault of a base image that is not Debian 13."""
    event = {"error": "returned a non-zero code: 127", "errorDetail": {"code": 127}}
    with pytest.raises(EngineError, match=r"MAILSTACK_BASE_IMAGE: 'alpine:3': check that it is an image of Debian 13"):
        images._follow(iter([event]), "mailstack/postfix:1", Packages("alpine:3"))


def test_an_engine_that_stops_answering() -> None:
    """What the engine refuses after the build is text too, by age() and by the warnings about it."""

    def refuse(*_: object) -> None:
        raise docker.errors.APIError("gone")

    client: Any = SimpleNamespace(info=refuse, images=SimpleNamespace(get=refuse))
    with pytest.raises(EngineError, match="mailstack/postfix:1: cannot read the image's age from the engine: gone"):
        images.age(client, "mailstack/postfix:1")
    with pytest.raises(EngineError, match="cannot read the engine's version: gone"):
        preflight.warnings(client)
