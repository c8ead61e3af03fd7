"""mailstack.tree: files as values, and a directory that is brought to their state."""

import errno
import io
import os
import tarfile

import pytest

from mailstack.tree import File, Tree

FILES = {"b/two": File(b"2\n", 0o755), "a": File(b"1\n"), "b/c/three": File(b"3\n", 0o600)}


@pytest.mark.parametrize("path", ["", ".", "/etc/passwd", "..", "../a", "a/../../b", "a/..", "a//b", "./a", "a/"])
def test_paths_that_are_refused(path):
    """A path that leaves the tree, or that has a shorter spelling, is no path of a tree."""
    with pytest.raises(ValueError, match="not a path inside a tree"):
        Tree({path: File(b"")})


def test_trees_put_together():
    """under() keeps the files and moves them; | refuses two files of one name, even equal ones."""
    tree = Tree(FILES)
    assert dict(tree.under("x/y")) == {f"x/y/{path}": file for path, file in FILES.items()}
    assert dict(tree | Tree({"d": File(b"")})) == FILES | {"d": File(b"")}
    with pytest.raises(ValueError, match="'a'"):
        tree | Tree({"a": FILES["a"]})
    with pytest.raises(ValueError, match="not a path inside a tree"):
        tree.under("..")


@pytest.mark.parametrize(
    "other",
    [
        FILES | {"a": File(b"1")},
        FILES | {"a": File(b"1\n", 0o640)},
        FILES | {"d": File(b"")},
        {path: file for path, file in FILES.items() if path != "a"},
        {path.replace("a", "A"): file for path, file in FILES.items()},
        FILES | {"a": FILES["b/two"], "b/two": FILES["a"]},
    ],
    ids=["content", "mode", "one more", "one less", "name", "exchanged"],
)
def test_digest_tells_trees_apart(other):
    """Any difference in a path, a mode or a content is a different digest and a different tar."""
    assert Tree(other).digest() != Tree(FILES).digest()
    assert Tree(other).tar() != Tree(FILES).tar()


def test_order_does_not_matter():
    """Equal files in another order are an equal tree: in order, digest and tar."""
    turned = Tree(dict(reversed(FILES.items())))
    assert list(turned) == list(Tree(FILES)) == sorted(FILES)
    assert turned.digest() == Tree(FILES).digest()
    assert turned.tar() == Tree(FILES).tar()


def test_tar_holds_the_tree_and_nothing_of_this_host():
    """A tar gives the files back; owners and times are the same everywhere and always."""
    with tarfile.open(fileobj=io.BytesIO(Tree(FILES).tar())) as archive:
        members = archive.getmembers()
        assert {one.name: File(archive.extractfile(one).read(), one.mode) for one in members} == FILES
    assert {(one.mtime, one.uid, one.gid, one.uname, one.gname) for one in members} == {(0, 0, 0, "", "")}


def state(root):
    return {
        path: (stat.st_mtime_ns, stat.st_ino, stat.st_mode)
        for path in [root, *root.rglob("*")]
        for stat in [path.lstat()]
    }


def test_write_makes_the_files(tmp_path):
    """write() makes directories, contents and modes, and names what it wrote."""
    assert sorted(Tree(FILES).write(tmp_path)) == sorted(FILES)
    found = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {
        path.relative_to(tmp_path).as_posix(): File(path.read_bytes(), path.stat().st_mode & 0o7777) for path in found
    } == FILES


def test_write_touches_nothing_that_is_right(tmp_path):
    """A second write() changes no time, no inode and no mode, of directories either."""
    Tree(FILES).write(tmp_path, owned="b")
    before = state(tmp_path)
    assert Tree(FILES).write(tmp_path, owned="b") == []
    assert state(tmp_path) == before


@pytest.mark.parametrize("change", [lambda path: path.write_bytes(b"x"), lambda path: path.chmod(0o666)])
def test_write_repairs_only_what_is_wrong(tmp_path, change):
    """A file whose content or mode was changed is put right; the others are not touched."""
    Tree(FILES).write(tmp_path)
    before = state(tmp_path)
    change(tmp_path / "b/c/three")
    assert Tree(FILES).write(tmp_path) == ["b/c/three"]
    assert (tmp_path / "b/c/three").read_bytes() == b"3\n"
    assert (tmp_path / "b/c/three").stat().st_mode & 0o7777 == 0o600
    assert [state(tmp_path)[tmp_path / path] for path in ("a", "b/two")] == [
        before[tmp_path / path] for path in ("a", "b/two")
    ]


def test_stale_files_below_owned_only(tmp_path):
    """What the tree does not hold is removed below its own directory, and nowhere else, even through a link."""
    theirs = ["secrets/key", "b2/file", "other"]
    stale = ["b/old", "b/gone/deep/file"]
    for path in [*theirs, *stale]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    (tmp_path / "b/link").symlink_to("../secrets")
    assert sorted(Tree(FILES).write(tmp_path, owned="b")) == sorted(FILES)
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if not path.is_dir()}
    assert found == {*FILES, *theirs}
    assert not (tmp_path / "b/gone").exists()


def test_what_is_kept(tmp_path):
    """Below its own directory stays what is to be kept, a file or a directory with all in it, and nothing like it."""
    for path in ("b/kept/deep/file", "b/kept2/file", "b/one", "b/one2"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    Tree(FILES).write(tmp_path, owned="b", keep={"b/kept", "b/one"})
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if not path.is_dir()}
    assert found == {*FILES, "b/kept/deep/file", "b/one"}
    assert not (tmp_path / "b/kept2").exists()


def test_without_owned_nothing_is_removed(tmp_path):
    """write() by itself only adds."""
    (tmp_path / "b").mkdir()
    (tmp_path / "b/old").write_text("x")
    Tree(FILES).write(tmp_path)
    assert (tmp_path / "b/old").read_text() == "x"


def test_what_differs(tmp_path):
    """A tree differs from what is not there, is another, or has something else in its place; not from what it wrote."""
    tree = Tree({"a/b": File(b"x")})
    assert tree.differs(tmp_path)
    (tmp_path / "a").write_text("in the way")
    assert tree.differs(tmp_path)
    (tmp_path / "a").unlink()
    tree.write(tmp_path)
    assert not tree.differs(tmp_path)
    (tmp_path / "a/b").chmod(0o600)
    assert tree.differs(tmp_path)


def test_a_link_in_place_of_the_owned_directory(tmp_path):
    """A directory of somebody else's that is linked to is not emptied, and nothing is written."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/file").write_text("x")
    (tmp_path / "b").symlink_to("theirs")
    with pytest.raises(OSError, match="remove the link") as caught:
        Tree(FILES).write(tmp_path, owned="b")
    assert caught.value.filename == str(tmp_path / "b")
    assert not (tmp_path / "a").exists()
    assert [path.name for path in (tmp_path / "theirs").iterdir()] == ["file"]


def test_a_full_disk_is_told_with_the_path(tmp_path, monkeypatch):
    """The system names no file when a disk is full; the error does, and the old file is still there."""
    (tmp_path / "a").write_text("old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(OSError, match="No space left") as caught:
        Tree(FILES).write(tmp_path)
    assert caught.value.filename == str(tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"
