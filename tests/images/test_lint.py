"""What is built into images reads well to the linters, as it is rendered."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench.images import contexts
from mailstack.render.contexts import build_context
from mailstack.services import ALL_NAMES
from mailstack.stack.packages import Packages

CHECKOUT = Path(__file__).parents[2]
TOOLS = Path(sys.executable).parent
BASE_IMAGE = "debian:trixie-slim"
IMAGES = {image: build_context(image, Packages(BASE_IMAGE)) for image in (*ALL_NAMES, "world", "readers")} | contexts(
    BASE_IMAGE
)


def lint(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("image", IMAGES)
def test_dockerfile(image: str, tmp_path: Path) -> None:
    """Hadolint has nothing to say about the Dockerfile."""
    IMAGES[image].write(tmp_path)
    lint(TOOLS / "hadolint", tmp_path / "Dockerfile")


@pytest.mark.parametrize("script", [".ci/run", "tools/set-up", "images/_build/install-packages"])
def test_scripts_of_the_checkout(script: str) -> None:
    """Shellcheck has nothing to say about the scripts that lie in no image's rootfs."""
    lint(TOOLS / "shellcheck", "--exclude=SC1091", CHECKOUT / script)  # a file of the system


@pytest.mark.parametrize("image", IMAGES)
def test_scripts(image: str, tmp_path: Path) -> None:
    """Shellcheck has nothing to say about shell scripts, and Perl and Python accept theirs."""
    IMAGES[image].write(tmp_path)
    scripts = list((tmp_path / "rootfs/usr/local/bin").glob("*"))
    assert scripts or b"/usr/local/bin" not in IMAGES[image]["Dockerfile"].content
    for script in scripts:
        interpreter = script.read_text().splitlines()[0].rpartition("/")[2].split()[0]
        match interpreter:
            case "bash":
                lint(TOOLS / "shellcheck", script)
            case "perl" | "perl -w":
                lint("perl", "-c", script)
            case "python3":
                lint(sys.executable, "-m", "py_compile", script)
            case _:
                pytest.fail(f"{script.name}: no linter for {interpreter}")
