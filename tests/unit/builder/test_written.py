"""What builds leave in a site's directory, and which directories containers are to mount."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mailstack.errors import MailstackError
from mailstack.render.compose import COMPOSE, PREVIOUS, SITE, site
from mailstack.services import SERVICE_NAMES
from mailstack.tasks import written
from mailstack.tree import File, Tree
from unit.sites import stack

ONE, TWO = Tree({"etc/a": File(b"one")}), Tree({"etc/a": File(b"two")})


def placed(directory: Path, part: Tree) -> str:
    """Where a service's files are to be, once they are written there."""
    place = written.places(directory, {"postfix": part})["postfix"]
    part.under(f"{SITE}/{place}").write(directory)
    return place


def test_places(tmp_path: Path) -> None:
    """Equal files have one place, others another one; going back finds the one of before."""
    first, second = placed(tmp_path, ONE), placed(tmp_path, TWO)
    assert first == f"postfix/{ONE.digest()[:12]}"
    assert second == f"postfix/{TWO.digest()[:12]}"
    assert placed(tmp_path, ONE) == first


@pytest.mark.parametrize("mended", [True, False])
def test_a_place_that_was_edited(tmp_path: Path, mended: bool) -> None:
    """What a container may have started with is not used again, not even if it is put right by hand."""
    first = placed(tmp_path, ONE)
    file = tmp_path / SITE / first / "etc/a"
    for number in (2, 3):
        file.write_text("edited")
        place = placed(tmp_path, ONE)
        assert place == f"{first}.{number}"
        assert (tmp_path / SITE / place / "etc/a").read_text() == "one"
        if mended:
            file.write_text("one")
        assert placed(tmp_path, ONE) == place
        file = tmp_path / SITE / place / "etc/a"
    (tmp_path / SITE / first / "etc/a").unlink()
    assert placed(tmp_path, ONE) == f"{first}.3"


@pytest.mark.parametrize("inside", ["file", "link", "no files"])
def test_something_else_in_a_place(tmp_path: Path, inside: str) -> None:
    """A file, a dangling link or an empty directory of the name is not what was written there."""
    place = tmp_path / SITE / "postfix" / ONE.digest()[:12]
    place.parent.mkdir(parents=True)
    if inside == "file":
        place.write_text("x")
    elif inside == "link":
        place.symlink_to("nowhere")
    else:
        place.mkdir()
    assert placed(tmp_path, ONE) == f"postfix/{place.name}.2"


def test_what_a_build_names(tmp_path: Path) -> None:
    """Project, images and places are read from compose.yaml as it is rendered; without one there are none."""
    assert written.read(tmp_path) == written.Written()
    tree = site(stack())
    tree.write(tmp_path)
    found = written.read(tmp_path)
    assert found.project == "mail-example-com"
    assert found.images.keys() == set(SERVICE_NAMES)
    assert all(name.startswith(f"mailstack/{service}:") for service, name in found.images.items())
    assert {path for path in tree if path != COMPOSE} == {
        path.relative_to(tmp_path).as_posix()
        for one in found.places
        for path in (tmp_path / one).rglob("*")
        if path.is_file()
    }


def test_what_goes(tmp_path: Path) -> None:
    """Only what this build, the one before, and containers mount is kept; a container is known by the host's path."""
    sizes = [site(stack(message_size=f"{size}MiB")) for size in (20, 21, 22, 23)]
    places = []
    for tree in sizes:
        written.write(tmp_path, tree, [f"{tmp_path}/{places[0]}/etc/postfix/main.cf"] if places else [])
        (place,) = [one for one in written.read(tmp_path).places if "/postfix/" in one]
        places.append(place)
    found = {one.relative_to(tmp_path).as_posix() for one in (tmp_path / SITE / "postfix").iterdir()}
    assert found == {places[0], places[2], places[3]}
    link = tmp_path.with_name(f"{tmp_path.name}-link")
    link.symlink_to(tmp_path)
    written.write(tmp_path, sizes[3], [f"{link}/{places[2]}/etc/postfix/main.cf", "/elsewhere/file"])
    assert (tmp_path / places[2]).is_dir()
    assert not (tmp_path / places[0]).exists()


def test_rolling_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The build before comes back, and the other one the next time; a new version alone is nothing to go back to."""
    with pytest.raises(MailstackError, match="no earlier build"):
        written.roll_back(tmp_path)
    first, second = (site(stack(port_smtp=port)) for port in ("25", "2525"))
    written.write(tmp_path, first, [])
    written.write(tmp_path, first, [])
    assert not (tmp_path / PREVIOUS).exists()
    written.write(tmp_path, second, [])
    monkeypatch.setattr("mailstack.render.compose.version", lambda: "9.9.9")
    newer = site(stack(port_smtp="2525"))
    written.write(tmp_path, newer, [])
    for expected in (first, newer, first):
        written.roll_back(tmp_path)
        assert (tmp_path / COMPOSE).read_bytes() == expected[COMPOSE].content


def another_version(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailstack.render.compose.version", lambda: "9.9.9")


def another_setting(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written.write(directory, site(stack(port_smtp="2525")), [])


def edited_line(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (directory / COMPOSE).open("a") as stream:
        stream.write("x-mine: 1\n")


def edited_file(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    next((directory / SITE).rglob("main.cf")).write_text("edited")


def no_compose(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (directory / COMPOSE).unlink()


@pytest.mark.parametrize(
    ("change", "built"),
    [
        (another_version, True),
        (another_setting, False),
        (edited_line, False),
        (edited_file, False),
        (no_compose, False),
    ],
)
def test_what_is_as_it_was_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path, pytest.MonkeyPatch], None], *, built: bool
) -> None:
    """Another version of mailstack by itself is no change of settings; everything else that a build would write is."""
    written.write(tmp_path, site(stack()), [])
    assert written.is_built(tmp_path, site(stack()))
    change(tmp_path, monkeypatch)
    assert written.is_built(tmp_path, site(stack())) == built


def two_builds(directory: Path) -> list[bytes]:
    """A site that was built twice; the earlier compose.yaml, and the present one."""
    trees = [site(stack(port_smtp=port)) for port in ("25", "2525")]
    for tree in trees:
        written.write(directory, tree, [])
    return [tree[COMPOSE].content for tree in trees]


def contents(directory: Path) -> list[bytes]:
    return [(directory / name).read_bytes() for name in (PREVIOUS, COMPOSE)]


def calls_of_a_rollback(monkeypatch: pytest.MonkeyPatch, fails: Callable[[int], bool], error: BaseException) -> None:
    """Let the calls fail by which a rollback changes files, by their number."""
    count = -1
    for name in ("replace", "unlink"):
        whole: Any = getattr(Path, name)

        def call(*given: Any, whole: Any = whole, **named: Any) -> Any:
            nonlocal count
            count += 1
            if fails(count):
                raise error
            return whole(*given, **named)

        monkeypatch.setattr(Path, name, call)


@pytest.mark.parametrize("at", range(3))
@pytest.mark.parametrize("then", ["rollback", "build"])
def test_a_rollback_that_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, then: str) -> None:
    """Wherever it ended, both builds are there for whatever comes next, and nothing else is left."""
    earlier, present = two_builds(tmp_path)
    with monkeypatch.context() as patch:
        # From there on nothing is done any more, not even what tidies up.
        calls_of_a_rollback(patch, lambda count: count >= at, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            written.roll_back(tmp_path)
    exchanged = (tmp_path / COMPOSE).read_bytes() == earlier
    with written.locked(tmp_path):
        assert contents(tmp_path) == ([present, earlier] if exchanged else [earlier, present])
        if then == "rollback":
            written.roll_back(tmp_path)
            assert contents(tmp_path) == ([earlier, present] if exchanged else [present, earlier])
        else:
            newest = site(stack(port_smtp="2526"))
            written.write(tmp_path, newest, [])
            assert contents(tmp_path) == [earlier if exchanged else present, newest[COMPOSE].content]
    assert sorted(one.name for one in (tmp_path / SITE).glob("*.yaml")) == ["previous.yaml"]


@pytest.mark.parametrize("at", range(3))
def test_a_rollback_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Room is needed before anything is changed; a later failure loses nothing either."""
    builds = two_builds(tmp_path)
    error = OSError(errno.ENOSPC, "No space left on device")
    with monkeypatch.context() as patch:
        calls_of_a_rollback(patch, lambda count: count == at, error)
        with pytest.raises(OSError, match="No space left"):
            written.roll_back(tmp_path)
    with written.locked(tmp_path):
        assert sorted(contents(tmp_path)) == sorted(builds)


@pytest.mark.parametrize("change", [b"# mine\n", b"x: y\n"])
def test_a_rollback_keeps_what_was_edited(tmp_path: Path, change: bytes) -> None:
    """An edited compose.yaml is kept under a name of its own, as by a build; one as it was written is not."""
    earlier, present = two_builds(tmp_path)
    with (tmp_path / COMPOSE).open("ab") as stream:
        stream.write(change)
    (said,) = written.roll_back(tmp_path)
    assert "had been edited; your version is saved as compose.yaml.edited" in said
    assert (tmp_path / "compose.yaml.edited").read_bytes() == present + change
    assert (tmp_path / COMPOSE).read_bytes() == earlier
    (tmp_path / PREVIOUS).write_bytes(present)
    assert written.roll_back(tmp_path) == ()
