"""Builds without a registry, from a mirror, broken off, failing, old."""

import contextlib
import datetime as dt
import functools
import hashlib
import http.server
import io
import ipaddress
import json
import re
import signal
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import docker
import pytest

from integration.conftest import CHECKOUT, MAILSTACK, run_in, without_settings
from mailstack.engine import images
from mailstack.engine.images import age, age_warnings
from mailstack.render.contexts import image_name
from mailstack.services import SERVICE_NAMES
from mailstack.stack.packages import Packages
from mailstack.world.containers import wait_for
from place import BASE_IMAGE

MOMENT = "20261101T000000Z"
NOWHERE = "registry.invalid/debian:trixie-slim"


def site(directory: Path, **settings: str) -> Path:
    """A directory with env.example and further settings as its .env."""
    lines = "".join(f"MAILSTACK_{name}={value}\n" for name, value in settings.items())
    (directory / ".env").write_text((CHECKOUT / "env.example").read_text() + lines)
    return directory


@dataclass
class Archive:
    """An HTTP server that is a mirror and an archive of snapshots: it sends clients on to the real mirror."""

    url: str
    asked: list[str] = field(default_factory=list)


def _handler(archive: Archive, sources: dict[str, str]) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            archive.asked.append(self.path)
            found = re.fullmatch(rf"/(debian|debian-security)/{MOMENT}/(.*)", self.path)
            if not found:
                self.send_error(404)
                return
            self.send_response(302)
            self.send_header("Location", f"{sources[found[1]]}/{found[2]}")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


@pytest.fixture
def bridge(engine_client: docker.DockerClient) -> tuple[str, list[str]]:
    """The address at which build containers reach this machine, and the URLs of the base image's mirrors."""
    text = engine_client.containers.run(
        BASE_IMAGE,
        ["sh", "-c", "cat /proc/net/route /etc/apt/sources.list /etc/apt/sources.list.d/* 2> /dev/null || true"],
        remove=True,
    ).decode()
    # The default route's gateway, in the kernel's notation.
    (route,) = re.findall(r"^\w+\t00000000\t([0-9A-F]{8})\t", text, flags=re.MULTILINE)
    gateway = str(ipaddress.IPv4Address(int(route, 16).to_bytes(4, sys.byteorder)))
    return gateway, [one.rstrip("/") for one in re.findall(r"http://[^ \n]+", text)]


@pytest.fixture
def archive(bridge: tuple[str, list[str]]) -> Iterator[Archive]:
    """An archive of snapshots that this machine and build containers reach."""
    gateway, urls = bridge
    main = next(one for one in urls if "security" not in one)
    security = next((one for one in urls if "security" in one), f"{main}-security")
    found = Archive("")
    handler = _handler(found, {"debian": main, "debian-security": security})
    with http.server.ThreadingHTTPServer((gateway, 0), handler) as server:
        found.url = f"http://{gateway}:{server.server_port}/debian"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield found
        server.shutdown()
        thread.join()


@pytest.fixture
def silent_mirror(bridge: tuple[str, list[str]]) -> Iterator[str]:
    """A mirror that takes connections and never says anything."""
    with socket.create_server((bridge[0], 0)) as server:
        yield f"http://{bridge[0]}:{server.getsockname()[1]}/debian"


@pytest.fixture
def other_base(engine_client: docker.DockerClient) -> Iterator[str]:
    """The base image under another name, so that builds from it are not there yet."""
    name = "mailstack-test/base:1"
    engine_client.images.get(BASE_IMAGE).tag("mailstack-test/base", "1")
    yield name
    remove(engine_client, name)


def remove(client: docker.DockerClient, base: str, snapshot: str | None = None) -> None:
    """The images on that base, under the lasting names of builds too, and the base."""
    names = tuple(image_name(one, Packages(base, snapshot=snapshot)) for one in SERVICE_NAMES)
    for tag in [tag for image in client.images.list() for tag in image.tags]:
        if tag == base or tag.startswith(names):
            client.images.remove(tag, force=True)


def test_no_registry_no_base_image(archive: Archive, engine_client: docker.DockerClient, tmp_path: Path) -> None:
    """The error names "mailstack base"; after it the build succeeds, all from one snapshot of an archive."""
    remove(engine_client, NOWHERE, MOMENT)
    try:
        site(tmp_path, BASE_IMAGE=NOWHERE, APT_MIRROR=archive.url, APT_SNAPSHOT=MOMENT)
        done = run_in(tmp_path, *MAILSTACK, "build")
        assert done.returncode == 4
        assert f"MAILSTACK_BASE_IMAGE: '{NOWHERE}': is not on this host and cannot be pulled" in done.stderr
        assert "Run 'mailstack base'" in done.stderr
        assert not (tmp_path / "compose.yaml").exists()

        done = run_in(tmp_path, *MAILSTACK, "base")
        assert done.returncode == 0, done.stderr
        assert f"image {NOWHERE} was made" in done.stderr
        for path in (f"/debian/{MOMENT}/dists/trixie/", f"/debian-security/{MOMENT}/dists/trixie-security/"):
            assert [one for one in archive.asked if one.startswith(path)]
        assert "already exists; use --replace" in run_in(tmp_path, *MAILSTACK, "base").stderr

        archive.asked.clear()
        done = run_in(tmp_path, *MAILSTACK, "build")
        assert done.returncode == 0, done.stderr
        assert "5 images built" in done.stderr
        assert archive.asked
        assert all(one.startswith(("/debian/", "/debian-security/")) and MOMENT in one for one in archive.asked)
        # What was made is a Debian 13 without documentation and locales, and nothing of the way there is left in it.
        packages = Packages(NOWHERE, snapshot=MOMENT)
        show = functools.partial(
            engine_client.containers.run, entrypoint="", user="0", network_mode="none", remove=True
        )
        found = show(
            image_name("postfix", packages), ["sh", "-c", "cat /etc/os-release; ls /usr/share/man /var/lib/apt/lists"]
        )
        assert b"VERSION_CODENAME=trixie" in found
        assert b"man1" not in found
        assert b"Packages" not in found
        assert b"postfix" in show(image_name("postfix", packages), ["dpkg-query", "-W"])
    finally:
        remove(engine_client, NOWHERE, MOMENT)


def test_wrong_mirror(other_base: str, tmp_path: Path) -> None:
    """Neither "base" nor "build" gets packages from a wrong mirror; both name the setting and its value."""
    mirror = "http://127.0.0.1:9/debian"
    site(tmp_path, BASE_IMAGE=other_base, APT_MIRROR=mirror)
    for command in (["base", "--replace"], ["build"]):
        done = run_in(tmp_path, *MAILSTACK, *command)
        assert done.returncode == 4
        assert (
            f"MAILSTACK_APT_MIRROR: '{mirror}'; check that the value is correct and that the server answers"
            in done.stderr
        )
        assert "Traceback" not in done.stderr
    # The failing step, and the last lines of its log.
    assert re.search(r"building mailstack/postfix:\S+ failed at: RUN install-packages postfix", done.stderr)
    # Of several failures apt words the first one as "Could not", the others as "Unable to", and shows any of them last.
    assert re.search(r"(Could not|Unable to) connect to 127\.0\.0\.1:9\b", done.stderr)
    assert not (tmp_path / "compose.yaml").exists()


def test_wrong_proxy(other_base: str, tmp_path: Path) -> None:
    """A proxy that does not answer is named too."""
    site(tmp_path, BASE_IMAGE=other_base, BUILD_PROXY="http://127.0.0.1:9")
    done = run_in(tmp_path, *MAILSTACK, "build")
    assert done.returncode == 4
    assert "MAILSTACK_BUILD_PROXY: 'http://127.0.0.1:9'; check that" in done.stderr


def test_interrupted(other_base: str, silent_mirror: str, engine_client: docker.DockerClient, tmp_path: Path) -> None:
    """Ctrl-C during a step ends the build with 130 and no file, and the engine stops too."""
    site(tmp_path, BASE_IMAGE=other_base, APT_MIRROR=silent_mirror)
    # A test run in the background of a shell ignores SIGINT, and so would what it starts.
    command = ["env", "--default-signal=INT", *MAILSTACK, "build"]
    build = subprocess.Popen(command, cwd=tmp_path, env=without_settings(), stderr=subprocess.PIPE, text=True)

    def steps() -> list[str]:
        """The containers of a build's steps; compose and docker run give names of their own."""
        return [
            one.id
            for one in engine_client.containers.list(ignore_removed=True)
            if "install-packages postfix" in " ".join(one.attrs["Config"]["Cmd"] or ())
        ]

    wait_for(steps, "the step did not begin")
    build.send_signal(signal.SIGINT)
    _, said = build.communicate(timeout=30)
    assert build.returncode == 130
    assert "error: interrupted; no unfinished files remain" in said
    assert "Traceback" not in said
    assert "RUN install-packages postfix" in said
    wait_for(lambda: not steps(), "the engine goes on")
    assert not (tmp_path / "compose.yaml").exists()
    assert not (tmp_path / ".mailstack").exists()


def old_image(name: str, days: int, *, made: int = 0) -> bytes:
    """An image archive whose packages were installed days ago (docker image specification 1.2), made and labelled since."""
    now = dt.datetime.now(dt.UTC) - dt.timedelta(days=made)
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w"):
        pass
    steps = [(days, "RUN /bin/sh -c install-packages postfix # buildkit", False), (0, "LABEL title=x", True)]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": now.isoformat(),
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"]},
        "history": [
            {"created": (now - dt.timedelta(days=ago)).isoformat(), "created_by": text, "empty_layer": empty}
            for ago, text, empty in steps
        ],
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    parts = {
        "config.json": json.dumps(config).encode(),
        "layer.tar": layer.getvalue(),
        "manifest.json": json.dumps(manifest).encode(),
    }
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as out:
        for path, content in parts.items():
            info = tarfile.TarInfo(path)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
    return archive.getvalue()


def test_old_image_is_warned_about(engine_client: docker.DockerClient) -> None:
    """The age is that of the packages, whatever was done to the image since; over the limit there is a warning."""
    name = "mailstack-test/old:1"
    engine_client.images.load(old_image(name, 40))
    try:
        days = age(engine_client, name)
        assert days == 40
        assert age_warnings({name: days}, 40) == []
        (warning,) = age_warnings({name: days}, 30)
        assert f"MAILSTACK_IMAGE_MAX_AGE: {name} is 40 days old, more than 30" in warning
        assert "mailstack build --refresh" in warning
    finally:
        engine_client.images.remove(name)


def test_names_of_what_refreshes_left(engine_client: docker.DockerClient) -> None:
    """Each content of a context has a name of its own; a refresh removes all but two, what is named and what is used."""
    context = "mailstack-test/kept:0123456789ab"
    names = [f"{context}-{at:012x}" for at in range(6)]
    for at, name in enumerate(names):
        engine_client.images.load(old_image(name, 10, made=9 - at))
    container = engine_client.containers.create(names[1], "none")
    try:
        # One that was loaded by its lasting name alone is found, and is not built: the newest.
        assert not images.exists(engine_client, context)
        assert images.build_missing(engine_client, {"kept": context}, Packages(BASE_IMAGE)) == []
        newest = engine_client.images.get(names[5]).id
        assert engine_client.images.get(context).id == newest
        # What compose.yaml names stays in force; without it the newest has one name, however often it is asked for.
        assert images.lasting_name(engine_client, context, names[2]) == names[2]
        fixed = {images.lasting_name(engine_client, context, None) for _ in range(2)}
        assert fixed == {f"{context}-{newest.removeprefix('sha256:')[:12]}"}
        assert fixed == {images.lasting_name(engine_client, context, f"{context}-gone")}
        engine_client.images.remove(*fixed)
        images.remove_old(engine_client, context, {names[0]})
        assert [one for one in names if images.exists(engine_client, one)] == [names[at] for at in (0, 1, 4, 5)]
    finally:
        container.remove()
        for name in (context, *names):
            with contextlib.suppress(docker.errors.ImageNotFound):
                engine_client.images.remove(name)


def test_where_an_image_comes_from(engine_client: docker.DockerClient, tmp_path: Path) -> None:
    """Labels name what an image is, its version and its base; its packages can be listed."""
    assert run_in(site(tmp_path), *MAILSTACK, "build").returncode == 0
    for service in SERVICE_NAMES:
        labels = engine_client.images.get(image_name(service, Packages(BASE_IMAGE))).labels
        prefix = "org.opencontainers.image"
        assert labels[f"{prefix}.title"] == f"mailstack {service}"
        # That of the mailstack that built it, perhaps an earlier one.
        assert labels[f"{prefix}.version"]
        assert labels[f"{prefix}.base.name"] == BASE_IMAGE
        assert labels[f"{prefix}.base.digest"] == engine_client.images.get(BASE_IMAGE).id
