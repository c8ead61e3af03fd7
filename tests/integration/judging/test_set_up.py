"""What tools/set-up gets for a machine that lacks it, from where it really comes from."""

import contextlib
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.conftest import BASE_IMAGE, copy_checkout, run_in, without_settings
from mailstack.world.containers import wait_for

SETTINGS = (
    "MAILSTACK_HOSTNAME=mail.setup.example\nMAILSTACK_DOMAINS=setup.example\nMAILSTACK_MAILBOXES=user@setup.example\n"
    "MAILSTACK_PUBLISH_ADDRESSES=\nMAILSTACK_SUBNET=10.99.9.0/27\n"
)
LIST = "application/vnd.docker.distribution.manifest.list.v2+json"


def test_first_message_without_a_compose_plugin(engine: None, tmp_path: Path) -> None:
    """Compose comes into .venv, "make up" and mailstack use it there, and what they print can be pasted."""
    site, path, home = (tmp_path / name for name in ("site", "bin", "home"))
    copy_checkout(site)
    (site / ".env").write_text(SETTINGS)
    path.mkdir()
    home.mkdir()
    # The docker command as Debian has it.
    (path / "docker").write_text(f'#!/bin/sh\n[ "$1" != compose ] && exec {shutil.which("docker")} "$@"\n')
    (path / "docker").chmod(0o755)
    environment = without_settings() | {"PATH": f"{path}:{os.environ['PATH']}", "HOME": str(home)}

    def run(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", command], cwd=site, env=environment, capture_output=True, text=True, check=False
        )

    try:
        made = run("make up")
        assert made.returncode == 0, made.stdout + made.stderr
        assert "installing compose into .venv" in made.stderr
        printed = re.search(r"^  (printf .*\n.* sendmail -f .* -t)\n  (.*)$", made.stdout, flags=re.MULTILINE)
        assert printed is not None
        assert run(printed[1]).returncode == 0
        wait_for(lambda: "It works." in run(printed[2]).stdout, "the message did not arrive")
        # Nothing is in the user's home but pip's cache, and what rustup leaves there when pip asks for its version.
        assert {one.name for one in home.iterdir()} <= {".cache", ".rustup"}
        assert "installing" not in run("make engine").stderr
    finally:
        run(".venv/bin/docker-compose down --volumes --timeout 5")


class Registry(http.server.BaseHTTPRequestHandler):
    """One that has every image, as a list for no machine."""

    def do_GET(self) -> None:
        content = json.dumps({"schemaVersion": 2, "mediaType": LIST, "manifests": []}).encode()
        self.send_response(200)
        self.send_header("Content-Type", LIST if "/manifests/" in self.path else "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def registry() -> Iterator[str]:
    """A registry that answers; the engine takes plain HTTP from its own host."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def silent_registry() -> Iterator[str]:
    """One that takes connections and never says anything."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_base_image_is_needed(engine: None, registry: str, silent_registry: str, tmp_path: Path) -> None:
    """Where it is neither on this host nor at a registry that answers within seconds."""
    needed = {
        BASE_IMAGE: False,
        f"{registry}/debian:trixie-slim": False,
        f"{silent_registry}/debian:trixie-slim": True,
        "registry.invalid/debian:trixie-slim": True,
    }
    for name, expected in needed.items():
        (tmp_path / ".env").write_text(f"{SETTINGS}MAILSTACK_BASE_IMAGE={name}\n")
        done = run_in(tmp_path, sys.executable, "-m", "mailstack", "base", "--needed")
        assert (done.returncode, done.stdout, done.stderr) == (0 if expected else 1, "", ""), name
