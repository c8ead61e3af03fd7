"""What a checkout, an sdist and a bare copy say that they are; and what an image is named by."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mailstack import version
from mailstack.render.compose import site
from mailstack.render.contexts import build_context
from mailstack.services import SERVICE_NAMES
from mailstack.stack.packages import Packages
from unit.sites import stack


def git(root: Path, *command: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    subprocess.run(["git", "-C", str(root), *identity, *command], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "--quiet", "--message", "one")
    return tmp_path


def test_checkout(checkout: Path) -> None:
    """Each commit has a version of its own, named by the release before it if there is one; changed files show."""
    commit = r"\+g[0-9a-f]{7,}"
    assert re.fullmatch(f"0{commit}", version.of_git(checkout) or "")
    git(checkout, "tag", "v1.2.0")
    assert version.of_git(checkout) == "1.2.0"
    (checkout / "file").write_text("two")
    assert re.fullmatch(rf"1\.2\.0\.post0{commit}\.dirty", version.of_git(checkout) or "")
    git(checkout, "commit", "--quiet", "--all", "--message", "two")
    after = version.of_git(checkout) or ""
    assert re.fullmatch(rf"1\.2\.0\.post1{commit}", after)
    # A tag that is no version is none.
    git(checkout, "tag", "nightly")
    assert version.of_git(checkout) == after


@pytest.mark.parametrize(
    "given",
    [
        {"GIT_DIR": "{}/.git", "GIT_INDEX_FILE": "{}/.git/index"},
        {"GIT_DIR": "{}/.git", "GIT_WORK_TREE": "{}"},
        {"GIT_WORK_TREE": "{}"},
        {"GIT_DIR": "/nonexistent"},
        {"GIT_CEILING_DIRECTORIES": "/", "GIT_OBJECT_DIRECTORY": "/nonexistent"},
    ],
    ids=" ".join,
)
def test_in_a_hook_of_git(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, given: dict[str, str]
) -> None:
    """The version is this checkout's, whichever repository the variables of git name."""
    other = tmp_path_factory.mktemp("other")
    git(other, "init", "--quiet")
    git(other, "commit", "--quiet", "--allow-empty", "--message", "other")
    git(other, "tag", "v9.9.9")
    git(checkout, "tag", "v1.2.0")
    for name, value in given.items():
        monkeypatch.setenv(name, value.format(other))
    assert version.of_git(checkout) == "1.2.0"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a checkout to another user")
def test_checkout_of_another_user(checkout: Path) -> None:
    """Whose it is does not matter."""
    git(checkout, "tag", "v1.2.0")
    for path in (checkout, *checkout.rglob("*")):
        os.chown(path, 54321, 54321)
    assert version.of_git(checkout) == "1.2.0"


def test_without_git(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An sdist says what it was packed as; a copy without anything says so; damage and a missing git are no fault."""
    monkeypatch.setattr(version, "__file__", str(checkout / "builder/mailstack/version.py"))
    monkeypatch.setattr(version, "_installed", lambda: None)
    monkeypatch.setenv("PATH", "")
    assert version.version.__wrapped__() == version.UNKNOWN
    monkeypatch.undo()
    monkeypatch.setattr(version, "__file__", str(checkout / "builder/mailstack/version.py"))
    monkeypatch.setattr(version, "_installed", lambda: None)
    (checkout / ".git/HEAD").write_text("nothing")
    assert version.version.__wrapped__() == version.UNKNOWN
    shutil.rmtree(checkout / ".git")
    (checkout / "PKG-INFO").write_text("Metadata-Version: 2.4\nName: mailstack\nVersion: 1.2.0.post1+gabc\n")
    assert version.version.__wrapped__() == "1.2.0.post1+gabc"


def test_images_do_not_change_with_each_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version is another compose.yaml, which names it, with the same images: nothing is built or recreated."""

    def rendered() -> tuple[str, list[str]]:
        text = site(stack())["compose.yaml"].content.decode()
        return text, [build_context(one, Packages("debian:trixie-slim")).digest() for one in SERVICE_NAMES]

    before = rendered()
    monkeypatch.setattr("mailstack.render.compose.version", lambda: "9.9.9")
    after = rendered()
    assert before[1] == after[1]
    different = [
        line for old, line in zip(*(one[0].splitlines() for one in (before, after)), strict=True) if old != line
    ]
    assert [line for line in different if not line.startswith("#")] == []
    assert any("mailstack 9.9.9 " in line for line in different)
