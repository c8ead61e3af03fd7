"""The page on ACME: its container gets a certificate from a real authority (pebble) and renews it, and Postfix has it."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from certificates import Authority
from integration.conftest import CHECKOUT
from integration.judging.test_documents import examples
from integration.judging.test_tls import certificate
from mailstack.world.containers import Machine, wait_for
from mailstack.world.internet import Internet
from mailstack.world.site import Site
from place import EDGE

HOST = "mail.delta.unsigned.example"
AUTHORITY = "acme.example"
PORT = 14000
PAGE = CHECKOUT / "docs/acme.md"
FILES = {one.file: one.text for one in examples(PAGE) if one.file}


@pytest.fixture(scope="module")
def pebble(world: Internet, authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """An authority that checks as one of the Internet does."""
    directory = tmp_path_factory.mktemp("pebble")
    directory.chmod(0o755)
    own = authority.issue(AUTHORITY)
    settings = {
        "listenAddress": f"0.0.0.0:{PORT}",
        "certificate": "/pebble/own.crt",
        "privateKey": "/pebble/own.key",
        "httpPort": 8080,
        "tlsPort": 8443,
    }
    for name, content in (("own.crt", own.chain), ("own.key", own.key)):
        (directory / name).write_bytes(content)
    (directory / "settings.json").write_text(json.dumps({"pebble": settings}))
    world.names.set(AUTHORITY, "A", str(EDGE[5]))
    world.names.publish()
    # Each name is validated each time, at once.
    chances = ["PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0", "PEBBLE_AUTHZREUSE=0"]
    command = ["env", *chances, "pebble", "-config", "/pebble/settings.json", "-dnsserver", f"{world.names.address}:53"]
    volumes = {directory: "/pebble"}
    with world.edge.serving("acme", world.image, EDGE[5], PORT, command=command, volumes=volumes) as machine:
        yield machine


@pytest.fixture(scope="module")
def image(engine: None, tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("page")
    for name in ("acme/Dockerfile", "acme/renew"):
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(FILES[name])
    (command,) = [one.text for one in examples(PAGE) if not one.file]
    subprocess.run(["sh", "-c", command], cwd=directory, check=True, capture_output=True)


class Renewing:
    """The container of the page in a site, with what is different there."""

    def __init__(self, site: Site, trusted: bytes, name_server: str) -> None:
        self.site = site
        self._file = site.directory / "compose.override.yaml"
        self._before = self._file.read_text()
        (site.directory / "tls/trusted").write_bytes(trusted)
        self._service = yaml.safe_load(FILES["compose.override.yaml"])["services"]["acme"]
        # The site has one address, as a host has; here it is postfix's.
        del self._service["ports"]
        self._service |= {"user": "0:0", "network_mode": "service:postfix"}
        self._service["environment"] |= {
            "NAME": HOST,
            "SERVER": f"https://{AUTHORITY}:{PORT}/dir",
            "LEGO_CA_CERTIFICATES": "/lego/trusted",
            "RFC2136_NAMESERVER": f"{name_server}:53",
        }

    def up(self, **settings: str) -> None:
        self._service["environment"] |= settings
        self._file.write_text(yaml.safe_dump({"services": {"acme": self._service}}))
        self.site.compose("up", "--detach", "--no-deps", "acme")

    def issued(self) -> int:
        """The serial number of the certificate in the directory, when Postfix presents it."""
        file = self.site.directory / f"tls/certificates/{HOST}.crt"

        def presented() -> int | None:
            # It may not be there, or half of it.
            with contextlib.suppress(OSError, ValueError):
                serial = x509.load_pem_x509_certificate(file.read_bytes()).serial_number
                return serial if certificate(self.site) == serial else None
            return None

        return wait_for(presented, "no certificate is issued and presented", 60)

    def down(self) -> None:
        self.site.compose("rm", "--force", "--stop", "acme")
        self._file.write_text(self._before)
        empty(self.site.directory / "tls")


def empty(directory: Path) -> None:
    for path in sorted(directory.rglob("*"), reverse=True):
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()


@pytest.fixture
def renewing(delta: Site, pebble: Machine, image: None, world: Internet, authority: Authority) -> Iterator[Renewing]:
    one = Renewing(delta, authority.root, str(world.names.address))
    yield one
    one.down()


def test_issued_and_renewed(renewing: Renewing) -> None:
    """By HTTP, then by DNS; a container that starts beside a good certificate asks for no other."""
    renewing.up()
    first = renewing.issued()
    state = renewing.site.status()["certificates"]
    assert [one["file"] for one in state["served"]] == [f"tls/certificates/{HOST}.crt"]
    assert state["faults"] == []
    renewing.up(DAYS="1")
    wait_for(lambda: [one for one in renewing.site.log("acme") if "no renewal" in one], "it does not look")
    assert renewing.issued() == first
    renewing.up(DAYS="99999", CHALLENGE="--dns rfc2136")
    wait_for(lambda: renewing.issued() != first, "it is not renewed", 60)
