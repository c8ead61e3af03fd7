"""What adding a service takes: one entry of mailstack.services, and one folder of images/."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import docker.errors
import pytest

from integration.conftest import copy_checkout, without_settings
from mailstack.services.ids import IDS
from mailstack.tasks import written
from place import BASE_IMAGE, INNER

UID = 990
ENTRY = (
    f'Service("example", {UID}, ("inner",), Limits(64, 16), 5, socket=True, '
    'overridable={"example.conf": "etc/example/example.conf"})'
)
IMAGE = {
    "Dockerfile.j2": f"""
FROM {{{{ packages.base_image }}}}
RUN groupadd --gid {{{{ ids.sockets }}}} mailstack \\
 && useradd --uid {UID} --gid mailstack --no-create-home example \\
 && install -d -o example -g mailstack -m 0750 /var/spool/postfix/example
COPY rootfs/ /
USER example:mailstack
CMD ["/usr/local/bin/example"]
""",
    "site/etc/example/example.conf.j2": "host = {{ stack.hostname }}\n",
    "rootfs/usr/local/bin/example": "#!/bin/sh\ntrap exit TERM\ntouch /var/spool/postfix/example/example.sock\n"
    "while :; do sleep 1 & wait; done\n",
    "rootfs/usr/local/bin/healthcheck": "#!/bin/sh\ntest -e /var/spool/postfix/example/example.sock\n",
    "rootfs/usr/local/bin/check-configuration": "#!/bin/sh\n! grep wrong /etc/example/example.conf\n",
}


class Copy:
    """A checkout of its own with one service more, and a site beside it."""

    def __init__(self, directory: Path) -> None:
        self.site = directory / "site"
        self.checkout = directory / "checkout"
        copy_checkout(self.checkout)
        entries = self.checkout / "builder/mailstack/services/__init__.py"
        text = entries.read_text().replace("resolver.SERVICE)", f"resolver.SERVICE, {ENTRY})")
        entries.write_text(f"from mailstack.services.model import Limits, Service\n{text}")
        for path, content in IMAGE.items():
            file = self.checkout / "images/example" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        self.override = self.site / "overrides/example/example.conf"
        self.override.parent.mkdir(parents=True)
        settings = {
            "HOSTNAME": "mail.another.example",
            "DOMAINS": "another.example",
            "MAILBOXES": "user@another.example",
            "PUBLIC_ADDRESSES": "192.0.2.25",
            "PUBLISH_ADDRESSES": "",
            "BASE_IMAGE": BASE_IMAGE,
            "SUBNET": str(list(INNER.subnets(new_prefix=26))[-1]),
        }
        (self.site / ".env").write_text("".join(f"MAILSTACK_{name}={value}\n" for name, value in settings.items()))

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.site,
            env=without_settings() | {"PYTHONPATH": os.pathsep.join((f"{self.checkout}/builder", f"{self.checkout}"))},
            capture_output=True,
            text=True,
            check=False,
        )

    def mailstack(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "mailstack", *arguments)


@pytest.fixture
def copy(tmp_path: Path, engine_client: docker.DockerClient) -> Iterator[Copy]:
    copy = Copy(tmp_path)
    yield copy
    copy.run("docker", "compose", "down", "--volumes", "--timeout", "5")
    # Its own two; the others are those of all tests.
    for name in map(written.read(copy.site).images.__getitem__, ("example", "postfix")):
        for tag in (name, name.rpartition("-")[0]):
            engine_client.images.remove(tag)


def test_another_service(copy: Copy) -> None:
    """It is built, checked, overridable and hardened, runs, and Postfix has its socket."""
    copy.override.write_text("wrong = yes\n")
    done = copy.mailstack("build")
    assert done.returncode == 2
    assert (
        "overrides/example/example.conf: example rejects this file; nothing was written:\nerror: wrong = yes"
        in done.stderr
    )

    copy.override.write_text("right = yes\n")
    done = copy.mailstack("build")
    assert done.returncode == 0, done.stderr
    services = json.loads(copy.run("docker", "compose", "config", "--format", "json").stdout)["services"]
    assert {name: services["example"][name] for name in ("read_only", "cap_drop", "security_opt", "restart")} == {
        name: services["resolver"][name] for name in ("read_only", "cap_drop", "security_opt", "restart")
    }
    socket = {"type": "volume", "source": "example-socket", "target": "/var/spool/postfix/example", "volume": {}}
    assert all(socket in services[name]["volumes"] for name in ("example", "postfix"))

    up = copy.run("docker", "compose", "up", "--detach", "--wait", "example")
    assert up.returncode == 0, up.stderr
    config = copy.run("docker", "compose", "exec", "example", "cat", "/etc/example/example.conf").stdout
    assert config.startswith("host = mail.another.example\n")
    assert config.endswith("# From overrides/example/example.conf\nright = yes\n")
    states = {one["name"]: one["well"] for one in json.loads(copy.mailstack("status", "--json").stdout)["services"]}
    assert states["example"] is True
    assert states.keys() == services.keys()

    seen = copy.run(
        *("docker", "compose", "run", "--rm", "--no-deps", "postfix"),
        *("stat", "-c", "%u:%g", "/var/spool/postfix/example", "/var/spool/postfix/example/example.sock"),
    )
    assert seen.stdout.split() == [f"{UID}:{IDS.sockets}"] * 2, seen.stderr
