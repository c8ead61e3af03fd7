"""mailstack_auth on the Python and the libraries that its images have, which are Debian's."""

import re
from pathlib import Path

import docker
import pytest

from mailstack.engine import connection, images
from mailstack.render.contexts import image_name, image_names
from mailstack.stack.packages import Packages

CHECKOUT = Path(__file__).parents[2]
NAME = "mailstack-own-python"
# What the tests need beside that.
TOOLS = (
    "python3-authres python3-click python3-dkim python3-docker python3-dotenv python3-hypothesis python3-jinja2 "
    "python3-pydantic python3-pydantic-settings python3-pytest python3-yaml openssl"
)
PACKAGES = Packages("debian:trixie-slim")


@pytest.fixture(scope="module")
def image(engine: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Dmarc's image, which is policyd-spf's but for its entrypoint, with the tools."""
    client = connection.connect()
    images.build_missing(client, image_names(("dmarc",), PACKAGES), PACKAGES)
    directory = tmp_path_factory.mktemp("own-python")
    install = f"apt-get update -qq && apt-get install -qq --yes --no-install-recommends {TOOLS}"
    (directory / "Dockerfile").write_text(f"FROM {image_name('dmarc', PACKAGES)}\nUSER root\nRUN {install}\n")
    client.images.build(path=str(directory), tag=NAME, rm=True)
    return NAME


def test_unit_tests_pass(image: str) -> None:
    """What passes with the newest libraries passes with those that are shipped."""
    options = '-q -p no:cacheprovider --confcutdir=tests/unit -o "pythonpath=. images/_python tests builder"'
    try:
        output = connection.connect().containers.run(
            image,
            # What the engine tells of a program that has failed is its standard error.
            ["sh", "-c", f"exec python3 -m pytest {options} tests/unit/auth >&2"],
            entrypoint="",
            working_dir="/checkout",
            environment={"PYTHONDONTWRITEBYTECODE": "1"},
            volumes={str(CHECKOUT): {"bind": "/checkout", "mode": "ro"}},
            stderr=True,
            remove=True,
        )
    except docker.errors.ContainerError as error:
        pytest.fail(f"exit {error.exit_status}\n{(error.stderr or b'').decode()}")
    # A run without tests would be none.
    passed = re.search(r"(\d+) passed", output.decode())
    assert passed
    assert int(passed[1]) > 1000
