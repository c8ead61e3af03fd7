"""Backups: what belongs into one, what a file must be to be taken for one, and a restore that leaves all or nothing."""

import contextlib
import copy
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from click.testing import CliRunner, Result

from mailstack.cli.app import main
from mailstack.engine import connection, snapshot, volumes
from mailstack.errors import EngineError, MailstackError
from mailstack.services import KEPT, VOLUMES
from mailstack.tasks import allowed, archive, backup, restore
from mailstack.tasks.archive import About, Contents, Writer

PROJECT = "mail-example-com"
REAL = {name: f"{PROJECT}_{name}" for name in KEPT}
ABOUT = About(PROJECT, "1.2.0", "2026-11-30T12:00:00+00:00", REAL, ("/etc/letsencrypt: is not below /srv/mail",))


def member(name: str, content: bytes | None = b"text\n", **attributes: Any) -> tuple[tarfile.TarInfo, Any]:
    """A member as a backup has it; a directory without content."""
    info = tarfile.TarInfo(name)
    info.mode, info.mtime = (0o700, 1) if content is None else (0o600, 1)
    if content is None:
        info.type = tarfile.DIRTYPE
    else:
        info.size = len(content)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, None if content is None else io.BytesIO(content)


def link(name: str, target: str) -> tuple[tarfile.TarInfo, Any]:
    info, _ = member(name, None, type=tarfile.SYMTYPE, linkname=target, mode=0o777)
    return info, None


def site() -> list[tuple[tarfile.TarInfo, Any]]:
    """The members of a small site."""
    return [
        member("site/.env", b"MAILSTACK_HOSTNAME=mail.example.com\n"),
        member("site/secrets", None),
        member("site/secrets/dkim", None),
        member("site/secrets/dkim/a.pem", b"a key\n"),
        member("site/tls", None, mode=0o755),
        member("site/tls/full.pem", b"a certificate\n", mode=0o644),
        link("site/tls/latest.pem", "full.pem"),
        member("volumes/queue", None, mode=0o755),
        member("volumes/queue/hold", None, uid=901),
        member("volumes/queue/hold/4jd8m72vyhzD29r", b"waits\n", mode=0o700, uid=901, gid=901),
        member("volumes/queue/maildrop", None, mode=0o1730, uid=901, gid=902),
        member("volumes/certificates/set.1/default.pem", b"taken\n"),
        link("volumes/certificates/current", "/var/lib/certificates/set.1"),
        member("volumes/mail/example.com/user/Maildir/new/1.a", b"one\n", uid=5000, gid=5000),
        member("volumes/mail/example.com/user/Maildir/cur/2.b:2,S", b"two\n", uid=5000, gid=5000),
        member("volumes/mail/example.com/user/Maildir/dovecot-uidlist", b"3\n", uid=5000, gid=5000),
    ]


def written(file: Path, members: list[tuple[tarfile.TarInfo, Any]], about: About = ABOUT) -> Contents:
    with file.open("wb") as stream:
        writer = Writer(stream, about, packed=file.suffix == ".gz", checked=False)
        for info, content in members:
            writer.add(info, content)
        writer.end()
    return writer.contents


def checked(file: Path, **room: int | None) -> Contents:
    with file.open("rb") as stream:
        return archive.check(stream, file.name, room)


@pytest.mark.parametrize("name", ["site.tar", "site.tar.gz"])
def test_what_was_written_is_found(tmp_path: Path, name: str) -> None:
    """A person and a program see what is in a backup, and how much of it; what was written says the same."""
    file = tmp_path / name
    made = written(file, site())
    found = checked(file)
    assert found == made
    done = CliRunner().invoke(main, ["backup", "--list", str(file)])
    assert done.stdout.splitlines() == [
        "mail-example-com, 2026-11-30T12:00:00+00:00, by mailstack 1.2.0",
        "",
        "what                 how much            size",
        ".env                 1 file              36 B",
        "secrets              1 file              6 B",
        "tls                  2 files             14 B",
        "queue                1 message (1 hold)  6 B",
        "certificates in use  2 files             6 B",
        "mail                 2 messages          10 B",
        "",
        "not in it:",
        "  /etc/letsencrypt: is not below /srv/mail",
    ]
    listed = json.loads(CliRunner().invoke(main, ["backup", "--list", "--json", str(file)]).stdout)
    assert listed["project"] == PROJECT
    assert {one["name"]: (one["files"], one["messages"]) for one in listed["items"]}["mail"] == (3, 2)


def test_cut_off_anywhere(tmp_path: Path) -> None:
    """No part of a backup is taken for a whole one, wherever it ends."""
    for name in ("site.tar", "site.tar.gz"):
        file = tmp_path / name
        written(file, site())
        whole = file.read_bytes()
        # What follows the last member of a tar is filled up with zeros.
        end = len(whole.rstrip(b"\0")) if name == "site.tar" else len(whole)
        for size in {*range(0, end, 173), end - 1}:
            file.write_bytes(whole[:size])
            with pytest.raises(allowed.BrokenBackupError, match=r"cut off|damaged|not a backup"):
                checked(file)


def test_other_octets(tmp_path: Path) -> None:
    """A content that has changed is noticed, and so is an owner, though each member by itself is right."""
    file = tmp_path / "site.tar"
    written(file, site())
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"a key\n", b"b key\n"))
    with pytest.raises(allowed.BrokenBackupError, match="damaged"):
        checked(file)
    with tarfile.open(fileobj=io.BytesIO(whole)) as old, tarfile.open(file, "w") as new:
        for info in old:
            info.uid = 0 if info.uid == 5000 else info.uid
            new.addfile(info, old.extractfile(info) if info.isreg() else None)
    with pytest.raises(allowed.BrokenBackupError, match="damaged"):
        checked(file)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 10240, b"MAILSTACK_HOSTNAME=x\n", b"\x1f\x8b\x08", b"PK\x03\x04" * 500]
)
def test_what_is_no_backup(tmp_path: Path, content: bytes) -> None:
    """A file of another kind is none, and says so."""
    file = tmp_path / "file"
    file.write_bytes(content)
    with pytest.raises(allowed.BrokenBackupError, match=r"^file: is not a backup of mailstack"):
        checked(file)


def manifest(**changes: Any) -> bytes:
    """A tar with nothing but what a backup says of itself, changed."""
    content = json.dumps({"format": 1, **vars(ABOUT), **changes}).encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info, stream = member(archive.MANIFEST, content)
        tar.addfile(info, stream)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2, "version": "9.9.0"}, "was made by a newer mailstack, '9.9.0'; use that version, or a newer one"),
        ({"format": "1"}, "is not a backup of mailstack"),
        ({"volumes": None}, "is not a backup of mailstack"),
        ({"volumes": {"accounts": "x"}}, "'accounts' is no volume that this version of mailstack knows"),
        ({"volumes": {"mail": "../x"}}, "'../x' is no name of a project or volume"),
        ({"volumes": {"mail": "x", "queue": "x"}}, "two of its volumes have one name"),
        ({"project": "a b"}, "'a b' is no name of a project or volume"),
    ],
)
def test_what_a_backup_says_of_itself(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    """A newer form, and what it cannot mean, are refused by what comes first."""
    file = tmp_path / "site.tar"
    file.write_bytes(manifest(**changes))
    with pytest.raises(allowed.BrokenBackupError) as error:
        checked(file)
    assert str(error.value).startswith(f"site.tar: {said}")


SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 60)}
HOSTILE = {
    "above": (member("site/../x"), "is no path"),
    "absolute": (member("/etc/cron.d/x"), "is no path"),
    "dots": (member("site/./x"), "is no path"),
    "elsewhere": (member("home/x"), "is no path"),
    "the site itself": (member("site", None), "is no path"),
    "no name": (member(""), "is no path"),
    "a volume that is a file": (member("volumes/mail"), "is no path"),
    "no volume": (member("volumes/other/x"), "is no path"),
    "compose.yaml": (member("site/compose.yaml"), "is made by a build"),
    "the place of a restore": (member("site/.mailstack-restore/word"), "is made by a build"),
    "built": (member("site/.mailstack/postfix/x"), "is made by a build"),
    "twice": (member("site/.env"), "is there twice"),
    "below a file": (member("site/.env/x"), "is there twice, or below a file"),
    "below a link": (member("site/tls/latest.pem/x"), "is there twice, or below a file or link"),
    "over a directory": (link("volumes/mail/example.com", "elsewhere"), "is there twice"),
    "a link out": (link("site/tls/x", "../../x"), "leads out"),
    "a link to secrets": (link("site/tls/x", "../secrets/dkim"), "leads out"),
    "an absolute link": (link("site/tls/x", "/etc/passwd"), "leads out"),
    "a link out of a volume": (link("volumes/certificates/x", "/var/lib/certificates/../x"), "leads out"),
    "a link into another volume": (link("volumes/mail/x", "/var/spool/postfix/hold"), "leads out"),
    "a volume that is a link": (link("volumes/mail", "x"), "is no path"),
    "an empty link": (link("site/tls/x", ""), "leads out"),
    "a hard link": (member("site/x", None, type=tarfile.LNKTYPE, linkname="site/.env"), "is no file"),
    "a device": (member("volumes/mail/x", None, type=tarfile.BLKTYPE), "is no file"),
    "a pipe": (member("site/x", None, type=tarfile.FIFOTYPE), "is no file"),
    "a link through a link": (link("site/tls/x", "deep/link/../x"), "leads out"),
    "a link down and up": (link("volumes/mail/x", "a/../b"), "leads out"),
    "no time": (member("site/x", pax_headers={"mtime": "nan"}), "has a time or size that cannot be"),
    "the end of time": (member("volumes/mail/x", pax_headers={"mtime": "inf"}), "has a time or size that cannot be"),
    "later": (member("site/x", pax_headers={"mtime": "1e300"}), "has a time or size that cannot be"),
    "before time": (member("site/x", pax_headers={"mtime": "-1"}), "has a time or size that cannot be"),
    # Python 3.11.2 reads on from there.
    "less than nothing": (member("site/x", pax_headers={"size": "-1"}), "has a time or size that cannot be|is cut off"),
    "a NUL": (member("site/x", pax_headers={"path": "site/x\0y"}), "has a name that no file can have"),
    "a link to a NUL": (
        member("site/x", None, type=tarfile.SYMTYPE, pax_headers={"linkpath": "y\0z"}),
        "has a name that no file can have, or leads to one",
    ),
    "a long path": (member("site/" + "x/" * 2050), "has a name that no file can have"),
    "a sparse file": (member("site/x", b"1\n0\n1\n", pax_headers=SPARSE), "is a sparse file"),
    "an older sparse file": (
        member("site/x", pax_headers={"GNU.sparse.map": "0,5", "GNU.sparse.size": "99999999999"}),
        "is a sparse file",
    ),
    "the oldest sparse file": (member("site/x", type=tarfile.GNUTYPE_SPARSE), "is no file"),
    "half a sparse file": (member("site/y", pax_headers={"GNU.sparse.name": "site/x"}), "is a sparse file"),
    "set-user-id": (member("volumes/mail/x", mode=0o4755), "has mode 4755"),
    "a directory's set-user-id": (member("volumes/mail/x", None, mode=0o4755), "has mode 4755"),
    "for all to write": (member("site/x", mode=0o666), "has mode 666"),
    "no user": (member("volumes/mail/x", uid=2**31), "belongs to a user that cannot be"),
    "no group": (member("volumes/mail/x", gid=-1), "belongs to a user that cannot be"),
}


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_members(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: "Engine", directory: Path, hostile: str
) -> None:
    """A path that leads elsewhere, a link out, a device, another one's rights: refused before anything is written."""
    (info, content), said = HOSTILE[hostile]
    file = tmp_path / "site.tar"
    monkeypatch.setattr(Contents, "add", lambda *_: None)
    if content:
        content.seek(0)
    written(file, [*site(), (info, content)])
    monkeypatch.undo()
    engine.replace(monkeypatch)
    with pytest.raises(allowed.BrokenBackupError, match=said) as error:
        restore.restore(directory, file)
    assert str(error.value).endswith(". Nothing was restored")
    assert (list(directory.iterdir()), engine.volumes) == ([], {})


def test_what_else_a_header_says(tmp_path: Path, engine: "Engine", directory: Path) -> None:
    """Only what a backup has of a member reaches the engine: no attribute, no second path, no size of a directory."""
    headers = {"SCHILY.xattr.security.capability": "x", "uname": "root", "comment": "y", "GNU.volume.label": "z"}
    odd = [
        member("volumes/mail/file", uname="root", pax_headers=headers),
        (member("volumes/mail/directory", None, pax_headers=headers)[0], None),
        (copy.copy(link("volumes/mail/link", "file")[0]), None),
    ]
    odd[2][0].pax_headers = headers
    written(tmp_path / "site.tar", [*site(), *odd])
    restore.restore(directory, tmp_path / "site.tar")
    assert {"volumes/mail/file 600 0", "volumes/mail/directory 700 0", "volumes/mail/link 777 0"} <= {*engine.filled}
    assert engine.headers == {}


def test_a_directory_with_a_size(tmp_path: Path) -> None:
    """Tar programs disagree on what follows it, so nobody is told of it."""
    info, _ = member("volumes/mail/x", None, size=1)
    assert allowed.plain(info).size == 0


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (
            tarfile.TarInfo.create_pax_global_header({"uid": "0"}) + member("site/x", b"")[0].tobuf(),
            "header for several members",
        ),
        (member("site/x", b"", pax_headers={"comment": "x" * 100_000})[0].tobuf(), "header that is too large"),
        (member("site/" + "x" * 100_000, b"")[0].tobuf(tarfile.GNU_FORMAT), "header that is too large"),
        (
            b"".join(tarfile.TarInfo.create_pax_global_header({"a": "b"}) for _ in range(100)),
            "header that is too large",
        ),
    ],
)
def test_headers_that_take_memory(tmp_path: Path, header: bytes, said: str) -> None:
    """A header that is read as a whole is no larger than one of a backup."""
    file = tmp_path / "site.tar"
    file.write_bytes(manifest()[: 3 * tarfile.BLOCKSIZE].rstrip(b"\0").ljust(1024, b"\0") + header + bytes(20_000))
    with pytest.raises(allowed.BrokenBackupError, match=said):
        checked(file)


@pytest.mark.parametrize(("limit", "said"), [("_MAX_PATHS", "more than 2 paths"), ("_MAX_ITEMS", "more than 2 files")])
def test_more_than_can_be_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, said: str) -> None:
    """A backup with more members than anybody has is refused, and not read until the memory ends."""
    written(tmp_path / "site.tar", site())
    monkeypatch.setattr(allowed if limit == "_MAX_PATHS" else archive, limit, 2)
    with pytest.raises(allowed.BrokenBackupError, match=said):
        checked(tmp_path / "site.tar")


def test_odd_times_and_names_of_a_site(tmp_path: Path) -> None:
    """A file that is older than 1970, or whose name is not UTF-8, is in the backup like any other, and is listed."""
    with (tmp_path / "site.tar").open("wb") as stream:
        writer = Writer(stream, ABOUT, packed=False)
        writer.add(*member("site/old", mtime=-1.5))
        writer.add(*member("site/\udcff", mtime=1e12))
        writer.end()
    assert checked(tmp_path / "site.tar").tops() == ["old", "\udcff"]
    listed = json.loads(run("backup", "--list", "--json", str(tmp_path / "site.tar")).stdout)
    assert [one["name"] for one in listed["items"]] == ["old", "\udcff"]


@pytest.mark.parametrize("kind", [allowed.SITE, allowed.VOLUMES])
def test_more_than_fits(tmp_path: Path, kind: str) -> None:
    """What a backup would take of a disk is known before it is read to its end."""
    file = tmp_path / "site.tar"
    first, _ = member(archive.MANIFEST, b"")
    info, _ = member(f"{kind}/mail/x", size=1 << 50)
    about = json.dumps({"format": 1, **vars(ABOUT)}).encode()
    first.size = len(about)
    file.write_bytes(b"".join([*archive.octets(first, io.BytesIO(about)), *archive.octets(info, None)]))
    with pytest.raises(allowed.BrokenBackupError, match=r"holds more than fits on .*, which has 1 MiB left"):
        checked(file, **{kind: 1 << 20})


class Engine:
    """Stands in for the engine's volumes; fails where a test asks it to."""

    def __init__(self) -> None:
        self.volumes: dict[str, str] = {}
        self.containers: list[str] = []
        self.filling = False
        self.filled: list[str] = []
        self.headers: dict[str, str] = {}
        self.fault: BaseException | None = None
        self.happens: Callable[[], object] = lambda: None

    def replace(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connection, "connect", lambda: self)
        for name in ("create", "filler", "fill", "remove", "existing", "of_project", "free_space"):
            monkeypatch.setattr(volumes, name, getattr(self, name))

    def filler(self, _: object, project: str) -> str | None:
        return f"{project}-restore" if self.filling else None

    def create(self, _: object, project: str, names: dict[str, str], word: str) -> None:
        assert project == PROJECT
        self.volumes |= dict.fromkeys(names.values(), word)

    def fill(self, _: object, project: str, places: dict[str, str], content: Iterator[bytes]) -> None:
        assert project == PROJECT
        assert places == {f"volumes/{name}": real for name, real in REAL.items()}
        octets = b"".join(content)
        if self.fault:
            raise self.fault
        self.happens()
        with tarfile.open(fileobj=io.BytesIO(octets)) as tar:
            self.filled = [f"{one.name} {one.mode:o} {one.uid}" for one in tar]
            self.headers = {key: value for one in tar for key, value in one.pax_headers.items()}

    def remove(self, _: object, word: str) -> None:
        self.volumes = {name: one for name, one in self.volumes.items() if one != word}

    def existing(self, _: object, names: list[str]) -> list[str]:
        return [one for one in names if one in self.volumes]

    def of_project(self, _: object, project: str) -> tuple[list[str], list[str]]:
        return self.containers, []

    def free_space(self, _: object) -> None:
        return None


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine()
    engine.replace(monkeypatch)
    return engine


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "new"
    directory.mkdir()
    return directory


@pytest.fixture
def file(tmp_path: Path) -> Path:
    written(tmp_path / "site.tar", site())
    return tmp_path / "site.tar"


def files(directory: Path) -> dict[str, int]:
    """The paths below a directory with their permission bits."""
    return {
        str(one.relative_to(directory)): one.lstat().st_mode & 0o777
        for one in directory.rglob("*")
        if not one.is_symlink()
    }


ALL = {
    ".env": 0o600,
    "secrets": 0o700,
    "secrets/dkim": 0o700,
    "secrets/dkim/a.pem": 0o600,
    "tls": 0o755,
    "tls/full.pem": 0o644,
}


def test_restore(engine: Engine, directory: Path, file: Path) -> None:
    """Files with their modes, links, volumes with owners and modes; nothing else is left."""
    assert restore.restore(directory, file) == checked(file)
    assert files(directory) == ALL
    assert (directory / "tls/latest.pem").readlink() == Path("full.pem")
    assert (directory / "secrets/dkim/a.pem").read_bytes() == b"a key\n"
    assert list(engine.volumes) == list(REAL.values())
    assert "volumes/queue/hold/4jd8m72vyhzD29r 700 901" in engine.filled
    assert "volumes/queue/maildrop 1730 901" in engine.filled
    assert not [one for one in engine.filled if one.startswith("site")]


def test_beside_files_of_others(engine: Engine, directory: Path, file: Path) -> None:
    """A checkout of mailstack is no site: its files stay as they are."""
    (directory / "README.md").write_text("mine")
    (directory / ".git").mkdir()
    restore.restore(directory, file)
    assert files(directory).items() >= {**ALL, "README.md": (directory / "README.md").stat().st_mode & 0o777}.items()


@pytest.mark.parametrize("there", [".env", "compose.yaml", ".mailstack", "secrets", "tls/full.pem", "tls"])
def test_a_site_is_there(engine: Engine, directory: Path, file: Path, there: str) -> None:
    """Nothing of it is touched; the message names it."""
    (directory / there).parent.mkdir(exist_ok=True)
    (directory / there).write_text("mine")
    before = files(directory)
    with pytest.raises(MailstackError, match=f"has {there.partition('/')[0]}.* already.*Nothing was restored"):
        restore.restore(directory, file)
    assert (files(directory), (directory / there).read_text(), engine.volumes) == (before, "mine", {})


def test_a_link_in_the_place_of_a_directory(engine: Engine, directory: Path, tmp_path: Path) -> None:
    """Nothing is written through it."""
    written(tmp_path / "site.tar", [member("site/extra/x.conf")])
    (directory / "extra").symlink_to(tmp_path)
    with pytest.raises(MailstackError, match="has extra already"):
        restore.restore(directory, tmp_path / "site.tar")
    assert not (tmp_path / "x.conf").exists()


def test_volumes_and_containers_are_there(engine: Engine, directory: Path, file: Path) -> None:
    """Each is named with the command that would remove it."""
    engine.containers = [f"{PROJECT}-postfix-1"]
    with pytest.raises(MailstackError, match=f"has containers already: .*docker compose -p {PROJECT} down"):
        restore.restore(directory, file)
    engine.containers = []
    engine.volumes = {f"{PROJECT}_mail": "somebody's"}
    with pytest.raises(MailstackError, match=f"has volumes already: {PROJECT}_mail; .*docker volume rm {PROJECT}_mail"):
        restore.restore(directory, file)
    assert (files(directory), engine.volumes) == ({}, {f"{PROJECT}_mail": "somebody's"})


@pytest.mark.parametrize(
    "fault",
    [EngineError("no space left on device"), OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()],
)
def test_a_restore_that_fails_leaves_nothing(engine: Engine, directory: Path, file: Path, fault: BaseException) -> None:
    """Neither files nor volumes; it can be run again."""
    engine.fault = fault
    with pytest.raises((MailstackError, KeyboardInterrupt)):
        restore.restore(directory, file)
    assert (list(directory.iterdir()), engine.volumes) == ([], {})
    engine.fault = None
    restore.restore(directory, file)
    assert files(directory) == ALL


def test_a_file_that_comes_meanwhile(engine: Engine, directory: Path, file: Path) -> None:
    """What somebody writes while the volumes are filled stays, and what was moved by then goes back."""
    engine.happens = lambda: (directory / "tls").write_text("mine")
    with pytest.raises(MailstackError, match="/tls: was written by another program meanwhile; nothing was restored"):
        restore.restore(directory, file)
    assert (list(directory.iterdir()), (directory / "tls").read_text(), engine.volumes) == (
        [directory / "tls"],
        "mine",
        {},
    )


# The exit code of a process that ends at once and tidies nothing up, as after SIGKILL.
KILLED = 137


def killed(restored: Callable[[], object]) -> None:
    """Run a restore in a process of its own, which must end that way."""
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            restored()
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == KILLED


@pytest.fixture(params=[None, 0, 1, 2])
def moved(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, engine: Engine, directory: Path, file: Path
) -> list[str]:
    """A directory in which a restore was killed; what had come to its place by then. None: it was killed before."""
    number: int | None = request.param
    before, left = Path.rename, [number]

    def end(*_: object) -> None:
        os._exit(KILLED)

    def rename(path: Path, target: Path) -> Path:
        if not left[0]:
            os._exit(KILLED)
        left[0] -= 1
        return before(path, target)

    with monkeypatch.context() as patch:
        if number is None:
            patch.setattr(volumes, "fill", end)
        patch.setattr(Path, "rename", rename)
        killed(lambda: restore.restore(directory, file))
    assert not (directory / ".env").exists()
    assert (directory / restore.STAGING).is_dir()
    return ["secrets", "tls"][: number or 0]


def test_a_restore_that_was_killed(engine: Engine, directory: Path, file: Path, moved: list[str]) -> None:
    """The next one names what it has left, and removes only what it had not moved: the backup has that."""
    if moved:
        before = files(directory)
        said = f"has {', '.join(moved)} already, perhaps by a restore that was killed and left .mailstack-restore; "
        with pytest.raises(MailstackError, match=said):
            restore.restore(directory, file)
        assert files(directory) == before
    for one in moved:
        shutil.rmtree(directory / one)
    engine.volumes = dict.fromkeys(REAL.values(), "the word of the killed one")
    with pytest.raises(MailstackError, match=f"docker volume rm {' '.join(sorted(REAL.values()))}"):
        restore.restore(directory, file)
    assert len(engine.volumes) == len(REAL)
    engine.volumes = {}
    restore.restore(directory, file)
    assert files(directory) == ALL


def test_a_site_where_a_restore_was_killed(engine: Engine, directory: Path, file: Path, moved: list[str]) -> None:
    """Nothing of a site is touched that somebody has made there since, of its files and volumes."""
    for name in (".env", "compose.yaml", "secrets/dkim/a.pem"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text("mine")
    engine.volumes = dict.fromkeys(REAL.values(), "the word of the killed one")
    before = files(directory)
    with pytest.raises(MailstackError, match=r"has \.env, compose\.yaml, secrets.* already"):
        restore.restore(directory, file)
    assert (files(directory), list(engine.volumes)) == (before, list(REAL.values()))
    assert (directory / "secrets/dkim/a.pem").read_text() == "mine"


@pytest.mark.parametrize("kind", ["a file", "a link", "other files"])
def test_what_no_restore_has_left(engine: Engine, directory: Path, file: Path, tmp_path: Path, kind: str) -> None:
    """Something of the same name is not removed, and what a link leads to is not."""
    staging = directory / restore.STAGING
    if kind == "a file":
        staging.write_text("mine")
    elif kind == "a link":
        (tmp_path / "elsewhere/site").mkdir(parents=True)
        staging.symlink_to(tmp_path / "elsewhere")
    else:
        staging.mkdir()
        (staging / "moved.json").write_text('["secrets"]')
    with pytest.raises(MailstackError, match=r"/\.mailstack-restore: is not what a restore leaves.*move it away"):
        restore.restore(directory, file)
    assert os.path.lexists(staging)
    assert kind != "a link" or (tmp_path / "elsewhere/site").is_dir()
    assert engine.volumes == {}


def test_another_restore_is_running(engine: Engine, directory: Path, file: Path) -> None:
    """Of one project, in whatever directory: nothing is written into its volumes."""
    engine.filling = True
    with pytest.raises(MailstackError, match=f"another restore of {PROJECT} is running.*docker rm {PROJECT}-restore"):
        restore.restore(directory, file)
    assert (list(directory.iterdir()), engine.volumes) == ([], {})


class Volumes:
    """The engine's volumes as the SDK has them: one that exists comes as it is, whatever labels it is to have."""

    def __init__(self, **labels: dict[str, str] | None) -> None:
        self.there = {f"{PROJECT}_{name}": self._volume(f"{PROJECT}_{name}", one) for name, one in labels.items()}

    def _volume(self, name: str, labels: dict[str, str] | None) -> MagicMock:
        volume = MagicMock(attrs={"Labels": labels})
        volume.remove.side_effect = lambda: self.there.pop(name)
        return volume

    def create(self, name: str, *, labels: dict[str, str], driver: str) -> MagicMock:
        assert driver == "local"
        return self.there.setdefault(name, self._volume(name, labels))

    def list(self, filters: dict[str, str]) -> list[MagicMock]:
        label, _, value = filters["label"].partition("=")
        return [one for one in self.there.values() if (one.attrs["Labels"] or {}).get(label) == value]


@pytest.mark.parametrize("labels", [{"mailstack.restored": "another word"}, {}, None])
def test_a_volume_that_somebody_else_makes_meanwhile(labels: dict[str, str] | None) -> None:
    """It is not written into, and not removed with those that this restore has made."""
    there = Volumes(queue=labels)
    client = MagicMock(volumes=there)
    with pytest.raises(EngineError, match=f"volume {PROJECT}_queue was made by somebody else"):
        volumes.create(client, PROJECT, {"mail": REAL["mail"], "queue": REAL["queue"]}, "a word")
    assert sorted(there.there) == [REAL["mail"], REAL["queue"]]
    volumes.remove(client, "a word")
    assert list(there.there) == [REAL["queue"]]


def test_a_restore_by_root(engine: Engine, directory: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All files belong to whom the directory belongs to, links too, so that this user can go on with them."""
    owners: dict[str, tuple[int, int, bool]] = {}

    def chown(path: Path, user: int, group: int, *, follow_symlinks: bool) -> None:
        owners[str(path).partition("/.mailstack-restore/site/")[2]] = user, group, follow_symlinks

    status = os.stat_result((0o40755, 1, 1, 2, 1001, 1002, 0, 0, 0, 0))
    stat = Path.stat
    monkeypatch.setattr(Path, "stat", lambda one, **how: status if one == directory else stat(one, **how))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", chown)
    restore.restore(directory, file)
    assert owners == dict.fromkeys([*ALL, "tls/latest.pem"], (1001, 1002, False))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_restore_that_is_ended(engine: Engine, in_directory: Path, file: Path, number: signal.Signals) -> None:
    """By "kill", or since the connection is lost: it leaves nothing, as after Ctrl-C. Under nohup(1) it goes on."""
    engine.happens = lambda: signal.raise_signal(number)
    # The tests may run under nohup themselves.
    before = signal.signal(number, signal.SIG_DFL)
    try:
        done = run("restore", str(file))
        assert signal.getsignal(number) is signal.SIG_DFL
        assert (done.exit_code, "no unfinished files remain" in done.stderr) == (130, True)
        assert (list(in_directory.iterdir()), engine.volumes) == ([], {})
        signal.signal(number, signal.SIG_IGN)
        assert run("restore", str(file)).exit_code == 0
    finally:
        signal.signal(number, before)


def planned(directory: Path, composed: dict[str, Any], **environment: str) -> tuple[list[str], list[str], list[str]]:
    plan = backup.plan(directory, environment, composed)
    paths = [[str(one.relative_to(directory)) for one in some] for some in (plan.files, plan.mounted)]
    return paths[0], paths[1], list(plan.left_out)


def test_what_belongs_into_a_backup(tmp_path: Path) -> None:
    """Settings with the lists that they name, secrets, certificates, and what compose needs of a site's own additions."""
    for name in (
        *("secrets/dkim/a.pem", "overrides/postfix/main.cf", "tls/full.pem", "lists/mailboxes", "spare/aliases"),
        *("dovecot/dovecot.conf", "dovecot.env", "secrets/own", "rspamd/Dockerfile", "README.md", ".mailstack/x/y"),
        *("compose.yaml", "other.tar", "acme/Dockerfile"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".env").write_text("MAILSTACK_MAILBOXES_FILE=lists/mailboxes\nMAILSTACK_ALIASES_FILE=/etc/aliases\n")
    (tmp_path / "compose.override.yaml").write_text(
        "# ./compose.yaml\nservices: {dovecot: {env_file: [./dovecot.env], image: README, x: .}, acme: {image: acme}}\n"
    )

    def bind(source: str) -> dict[str, str]:
        return {"type": "bind", "source": source, "target": "/x"}

    composed = {
        "services": {
            "postfix": {"volumes": [bind(f"{tmp_path}/tls"), bind(f"{tmp_path}/.mailstack/x/y"), {"type": "volume"}]},
            "dovecot": {
                "volumes": [bind(f"{tmp_path}/dovecot/dovecot.conf"), bind("/etc/localtime"), bind(f"{tmp_path}/gone")],
                "build": {"context": f"{tmp_path}/rspamd"},
            },
        },
        "secrets": {
            "own": {"file": f"{tmp_path}/secrets/own"},
            "hidden": {"file": f"{tmp_path}/.mailstack-password"},
        },
        "volumes": {name: {} for name in (*VOLUMES, "dovecot-data")},
    }
    assert planned(tmp_path, composed, MAILSTACK_HOSTNAME="mail.example.com", PATH="/bin") == (
        [".env", "acme", "compose.override.yaml", "dovecot.env", "lists/mailboxes", "overrides", "rspamd", "secrets"],
        ["dovecot/dovecot.conf", "tls"],
        [
            "/etc/aliases: is not below " + str(tmp_path),
            "/etc/localtime: is not below " + str(tmp_path),
            f"{tmp_path}/.mailstack-password: has the name of what a build makes",
            f"{tmp_path}/gone: does not exist, or cannot be seen",
            "volume dovecot-data: of a service of your own",
            "MAILSTACK_HOSTNAME: set in the environment",
        ],
    )


def test_words_of_comments(tmp_path: Path) -> None:
    """What only a comment names is no part of a site: a restore could not put it into a checkout, which has it."""
    for name in ("README.md", "docs/dovecot.md", "Makefile", "own.env", "a#b.env", "more.yaml", "#x", "env.example"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "compose.override.yaml").write_text(
        "# See README.md and docs/dovecot.md.\r\n"
        "include: [more.yaml]\t# like env.example\n"
        "services:\n  dovecot:\n    #Makefile\n    env_file: [own.env, a#b.env] # ./Makefile\n"
    )
    assert planned(tmp_path, {})[0] == ["a#b.env", "compose.override.yaml", "more.yaml", "own.env"]


def test_files_by_their_content(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A link is written as what it leads to, a directory with its files; what others may write is closed to them.

    What has two names comes under both, and what cannot come is said.
    """
    (tmp_path / "elsewhere").write_text("X=1\n")
    (tmp_path / "site/secrets/deep").mkdir(parents=True)
    (tmp_path / "site/secrets/deep/key").write_text("key")
    (tmp_path / "site/secrets/deep/key").chmod(0o666)
    (tmp_path / "site/secrets/.mailstack-half").touch()
    (tmp_path / "site/secrets/dangling").symlink_to("nowhere")
    (tmp_path / "site/secrets/deep/round").symlink_to("..")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/other").touch()
    (tmp_path / "site/secrets/shared").symlink_to("../../shared")
    (tmp_path / "site/secrets/again").symlink_to("deep")
    (tmp_path / "site/secrets/itself").symlink_to("itself")
    os.mkfifo(tmp_path / "site/secrets/pipe")
    (tmp_path / "site/.env").symlink_to("../elsewhere")
    with (tmp_path / "site.tar").open("wb") as stream:
        writer = Writer(stream, ABOUT, packed=False)
        for name in (".env", "secrets"):
            backup._add(writer, tmp_path / "site", tmp_path / "site" / name)
        writer.end()
    assert checked(tmp_path / "site.tar") == writer.contents
    with tarfile.open(tmp_path / "site.tar") as tar:
        names = [one.name.removeprefix("site/") for one in tar if one.isreg() and one.name.startswith("site/")]
        assert names == [".env", "secrets/again/key", "secrets/deep/key", "secrets/shared/other"]
        assert (tar.getmember("site/.env").size, tar.getmember("site/secrets/deep/key").mode) == (4, 0o644)
    said = capsys.readouterr().err
    for name in ("again/round", "dangling", "deep/round", "itself", "pipe"):
        assert f"secrets/{name}: is" in said


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def in_directory(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(directory)
    return directory


def test_a_file_is_there(in_directory: Path) -> None:
    """It is not written over, unless that is asked for."""
    (in_directory / "site.tar").write_text("older")
    done = run("backup", "site.tar")
    assert (done.exit_code, done.stderr) == (
        1,
        "error: site.tar: already exists; choose another name, or use --replace\n",
    )
    assert (
        run("backup", "--replace", "site.tar").stderr
        == f"error: {in_directory}: nothing was built here; run: mailstack build\n"
    )
    assert (in_directory / "site.tar").read_text() == "older"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["backup", "x.tar"], 1, "nothing was built here"),
        (["backup", "no/x.tar"], 1, "No such file or directory"),
        (["backup"], 2, "Missing argument"),
        (["backup", "--json", "x.tar"], 2, "--json is for --list"),
        (["backup", "--list", "x.tar"], 1, "x.tar: cannot be read: No such file or directory"),
        (["backup", "--list", "."], 1, ".: is not a regular file"),
        (["restore", "x.tar"], 1, "x.tar: cannot be read: No such file or directory"),
        (["restore", "-"], 1, "write it to a file first"),
    ],
)
def test_wrong_use(in_directory: Path, arguments: list[str], code: int, said: str) -> None:
    """It is said, and nothing is written."""
    done = run(*arguments)
    assert (done.exit_code, said in done.stderr) == (code, True), done.stderr
    assert list(in_directory.iterdir()) == []


@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()])
def test_no_half_file(in_directory: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException) -> None:
    """A full disk is said with the remedy; the file that was there stays."""

    def write(*arguments: Any, **_: Any) -> Contents:
        arguments[2].write(b"a part")
        raise fault

    monkeypatch.setattr(backup, "write", write)
    (in_directory / "old.tar").write_text("older")
    done = run("backup", "--replace", "old.tar")
    assert (in_directory / "old.tar").read_text() == "older"
    assert [one.name for one in in_directory.iterdir()] == ["old.tar"]
    if isinstance(fault, OSError):
        said = "error: old.tar: No space left on device; make room on the disk; no backup was written\n"
        assert (done.exit_code, done.stderr) == (1, said)
    else:
        assert done.exit_code == 130


def test_what_a_killed_backup_has_left(in_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one removes it, but not what another one is writing, nor other files."""

    def die(*_: object, **__: object) -> Contents:
        os._exit(KILLED)

    def write(*arguments: Any, **how: Any) -> Contents:
        arguments[2].write(b"all")
        if how["besides"].name == "site.tar":
            assert run("backup", "second.tar").exit_code == 0
        return Contents(ABOUT)

    with monkeypatch.context() as patch:
        patch.setattr(backup, "write", die)
        killed(lambda: run("backup", "site.tar"))
    (left,) = in_directory.iterdir()
    monkeypatch.setattr(backup, "write", write)
    (in_directory / ".mailstack-backup-link").symlink_to(in_directory)
    (in_directory / ".mailstack-build").touch()
    done = run("backup", "site.tar")
    assert f"{left.name}: removed; a backup that was killed had left it" in done.stderr
    assert sorted(one.name for one in in_directory.iterdir()) == [
        *(".mailstack-backup-link", ".mailstack-build", "second.tar", "site.tar"),
    ]
    assert (in_directory / "site.tar").read_bytes() == b"all"


def test_nobody_else_can_read_it(in_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the umask is; and the output says what it holds."""

    def write(*arguments: Any, **_: Any) -> Contents:
        arguments[2].write(b"all")
        return Contents(ABOUT)

    monkeypatch.setattr(backup, "write", write)
    before = os.umask(0)
    try:
        done = run("backup", "site.tar")
    finally:
        os.umask(before)
    assert (in_directory / "site.tar").read_bytes() == b"all"
    assert (in_directory / "site.tar").stat().st_mode & 0o777 == 0o600
    assert done.stderr.endswith(
        "site.tar written. It has private keys, passwords and mail: keep it where only you can read it\n"
    )


@pytest.mark.parametrize("size", [0, 100, 512, 1024, 1300, 1536])
def test_what_reads_the_volumes_ends_early(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Its words are told, wherever it was; without any, what to do."""
    whole = b"".join(
        [*archive.octets(*member("volumes/mail", None)), *archive.octets(*member("volumes/mail/x", b"x" * 400))]
    )

    @contextlib.contextmanager
    def attached(*_: object) -> Iterator[Iterator[tuple[bool, bytes]]]:
        yield iter([(True, whole[:size]), (False, b"No space "), (False, b"left\n")])

    monkeypatch.setattr(volumes, "_postfix", lambda *_: None)
    monkeypatch.setattr(volumes, "_reader", lambda *_: "a container")
    monkeypatch.setattr(volumes.execution, "attached", attached)

    def read_all() -> None:
        with volumes.taken(MagicMock(), PROJECT, "", []) as members:
            for _, content in members:
                if content:
                    content.read()

    with pytest.raises(EngineError, match=r"^the volumes were not read: No space left$"):
        read_all()


# What reads the volumes, without a container.


@pytest.fixture
def maildir(tmp_path: Path) -> Path:
    """A mailbox with two new messages, one that was read, one with a second name elsewhere, and one half-written."""
    box = tmp_path / "mail/example.com/user/Maildir"
    for name in ("new", "cur", "tmp", ".Sent/new", ".Sent/cur", ".Sent/tmp"):
        (box / name).mkdir(parents=True)
    for name in ("new/1.a", "new/2.b", "cur/3.c:2,S", "tmp/4.d"):
        (box / name).write_text(name)
    (box / ".Sent/cur/9.copy:2,").hardlink_to(box / "cur/3.c:2,S")
    return box


class Moving(io.BytesIO):
    """A stream at whose first octets something happens."""

    def __init__(self, happens: Callable[[], object]) -> None:
        super().__init__()
        self._happens: Callable[[], object] | None = happens

    def write(self, content: Any) -> int:
        happens, self._happens = self._happens, None
        if happens:
            happens()
        return super().write(content)


def taken(stream: io.BytesIO, *roots: dict[str, object]) -> dict[str, tarfile.TarInfo]:
    """What a snapshot writes to a stream, by name; each name comes once, and its end is told."""
    snapshot.take(list(roots), stream, hold=False)
    stream.seek(0)
    with tarfile.open(fileobj=stream) as tar:
        members = tar.getmembers()
    assert members[-1].name == snapshot.END
    assert len({one.name for one in members}) == len(members)
    return {one.name: one for one in members[:-1]}


def mail_of(box: Path) -> dict[str, object]:
    return {"at": str(box.parents[2]), "name": "volumes/mail", "when": "listed", "files": None}


def messages(found: dict[str, tarfile.TarInfo]) -> list[str]:
    return sorted(name.partition("/Maildir/")[2] for name, info in found.items() if info.isreg())


def test_mail(maildir: Path) -> None:
    """All that is delivered, with owner and mode, a second name as well; nothing of what is not."""
    found = taken(io.BytesIO(), mail_of(maildir))
    assert messages(found) == [".Sent/cur/9.copy:2,", "cur/3.c:2,S", "new/1.a", "new/2.b"]
    assert found["volumes/mail/example.com/user/Maildir/new/1.a"].uid == os.getuid()
    assert "volumes/mail/example.com/user/Maildir/tmp" in found


MOVES = {
    "read": (lambda box: (box / "new/1.a").rename(box / "cur/1.a:2,S"), {"new/1.a": "cur/1.a:2,S"}),
    "flagged": (lambda box: (box / "cur/3.c:2,S").rename(box / "cur/3.c:2,RS"), {"cur/3.c:2,S": "cur/3.c:2,RS"}),
    "moved under another name": (
        lambda box: (box / "new/2.b").rename(box / ".Sent/cur/7.x:2,"),
        {"new/2.b": ".Sent/cur/7.x:2,"},
    ),
    "removed": (lambda box: (box / "new/2.b").unlink(), {"new/2.b": None}),
    "delivered": (lambda box: (box / "new/5.e").write_text("later"), {}),
}


@pytest.mark.parametrize("move", MOVES)
def test_mail_that_moves_while_it_is_read(maildir: Path, move: str) -> None:
    """No message is missing, and none is there twice; what comes later is not part of it."""
    happens, changes = MOVES[move]
    before = [".Sent/cur/9.copy:2,", "cur/3.c:2,S", "new/1.a", "new/2.b"]
    expected = sorted(name for name in (changes.get(one, one) for one in before) if name)
    assert messages(taken(Moving(lambda: happens(maildir)), mail_of(maildir))) == expected


def test_queue(tmp_path: Path) -> None:
    """Complete messages and what is noted about them; directories with their modes; neither sockets nor half messages."""
    root = tmp_path / "queue"
    for name, mode in {
        "incoming/ready": 0o700,
        "incoming/half": 0o600,
        "maildrop/ready": 0o744,
        "maildrop/half": 0o600,
        "deferred/A/one": 0o700,
        "defer/A/one": 0o600,
        "pid/master.pid": 0o644,
        "etc/hosts": 0o644,
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
        (root / name).chmod(mode)
    (root / "public").mkdir(mode=0o710)
    os.mkfifo(root / "public/pickup")
    kept = KEPT["queue"].files
    found = taken(io.BytesIO(), {"at": str(root), "name": "volumes/queue", "when": "held", "files": kept})
    assert sorted(name.removeprefix("volumes/queue/") for name, info in found.items() if info.isreg()) == [
        *("defer/A/one", "deferred/A/one", "incoming/ready", "maildrop/ready"),
    ]
    assert found["volumes/queue/public"].mode == 0o710
    assert {"volumes/queue/pid", "volumes/queue/etc"} <= found.keys()


def test_a_file_and_a_directory_of_the_site(tmp_path: Path) -> None:
    """What a container has mounted is read as it is: a file, or a directory with its links."""
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls/1.pem").write_text("one")
    (tmp_path / "tls/now.pem").symlink_to("1.pem")
    (tmp_path / "x.conf").write_text("x")
    roots = [
        {"at": f"{tmp_path}/{name}", "name": f"site/{name}", "when": "later", "files": None}
        for name in ("tls", "x.conf")
    ]
    found = taken(io.BytesIO(), *roots)
    assert list(found) == ["site/tls", "site/tls/now.pem", "site/tls/1.pem", "site/x.conf"]
    assert found["site/tls/now.pem"].linkname == "1.pem"


def test_a_backup_that_could_not_be_restored_is_not_made(tmp_path: Path) -> None:
    """What a restore would refuse ends the backup."""
    with (tmp_path / "site.tar").open("wb") as stream:
        writer = Writer(stream, ABOUT, packed=False)
        with pytest.raises(MailstackError, match="belongs to a user"):
            writer.add(*member("volumes/mail/x", b"x", uid=2**32 - 2))


def test_whom_a_snapshot_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that the first process has started, and no command of the engine's, such as another snapshot."""
    parents = {1: 0, 7: 1, 8: 7, 20: 0, 21: 20}
    monkeypatch.setattr(os, "listdir", lambda _: ["self", *map(str, parents)])
    monkeypatch.setattr(snapshot, "_parent", parents.__getitem__)
    assert snapshot._others() == [7, 8]


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """The one other process that there is."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        monkeypatch.setattr(snapshot, "_others", lambda: [child.pid])
        yield child
        child.kill()


def answers(child: subprocess.Popen[bytes]) -> bool:
    assert child.stdin
    assert child.stdout
    child.stdin.write(b"x")
    child.stdin.flush()
    return child.stdout.read(1) == b"x"


@pytest.mark.parametrize("program", ["virtual", "bounce"])
def test_a_delivery_in_hand_is_waited_for(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """However long it takes: stopped between the mailbox and the mark in the queue, a message would come back twice."""
    # As a backup has left it that was killed.
    now, stopped = [0.0], {8: -1.0}
    names = {7: "qmgr", 8: program, 9: "smtpd", 10: "virtual"}

    def state(process: int) -> str:
        if process == 10:
            return "Z"
        return "T" if process in stopped else "D" if process == 8 and now[0] < 9 else "S"

    def sleep(seconds: float) -> None:
        now[0] += seconds

    def send(number: signal.Signals, processes: list[int]) -> None:
        for one in processes:
            stopped.pop(one, None)
            if number == signal.SIGSTOP:
                stopped[one] = now[0]

    monkeypatch.setattr(snapshot, "_others", lambda: list(names))
    monkeypatch.setattr(snapshot, "_name", names.__getitem__)
    monkeypatch.setattr(snapshot, "_state", state)
    monkeypatch.setattr(snapshot, "_send", send)
    monkeypatch.setattr(snapshot.time, "sleep", sleep)
    monkeypatch.setattr(snapshot.time, "monotonic", lambda: now[0])
    snapshot._stop()
    assert (stopped[7], 9 < stopped[8] < 10, 9 < stopped[9] < 10) == (0, True, True)


@pytest.mark.parametrize("ends", ["well", "by a fault", "late", "by a signal"])
def test_others_are_held_and_go_on(process: subprocess.Popen[bytes], ends: str) -> None:
    """They are stopped meanwhile, and go on however it ends."""
    before = signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(SystemExit("ended")))
    try:
        with contextlib.suppress(ValueError, TimeoutError, SystemExit), snapshot.held():
            assert snapshot._state(process.pid) == "T"
            if ends == "by a fault":
                raise ValueError
            if ends == "late":
                signal.raise_signal(signal.SIGALRM)
            if ends == "by a signal":
                signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert answers(process)
    assert signal.alarm(0) == 0


def test_what_a_backup_keeps_is_marked_where_it_is_said() -> None:
    """The volumes with messages and certificates are kept, those of sockets and of memory are not."""
    assert sorted(KEPT) == ["certificates", "mail", "queue"]
    assert not any(VOLUMES[name].options for name in KEPT)
