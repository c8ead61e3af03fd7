"""The images hold nothing of a site, and the ids that volumes and sockets depend on."""

import re
from dataclasses import asdict

import docker
import pytest

from mailstack.engine import connection, images
from mailstack.render.contexts import build_context, image_name, image_names
from mailstack.services import ALL_NAMES, OPTIONAL, SERVICES
from mailstack.services.ids import IDS
from mailstack.stack.packages import Packages

PACKAGES = Packages("debian:trixie-slim")


@pytest.fixture(scope="module")
def client(engine: None) -> docker.DockerClient:
    client = connection.connect()
    images.build_missing(client, image_names(ALL_NAMES, PACKAGES), PACKAGES)
    return client


def show(client: docker.DockerClient, image: str, *command: str) -> str:
    output = client.containers.run(image_name(image, PACKAGES), list(command), entrypoint="", remove=True)
    return output.decode()


SOCKETS = {one.name: one.uid for one in SERVICES if one.socket}


def test_ids() -> None:
    """No two services have the same user, and none has another's number."""
    others = {value for name, value in asdict(IDS).items() if name.replace("_", "-") not in ALL_NAMES}
    services = (*SERVICES, *OPTIONAL)
    assert len({one.uid for one in services} | others) == len(services) + len(others)


@pytest.mark.parametrize("service", SOCKETS)
def test_socket_directories_agree(service: str, client: docker.DockerClient) -> None:
    """Both sides of a socket have its directory with the same owner, group and mode, by number."""
    command = ("stat", "-c", "%u:%g %a", f"/var/spool/postfix/{service}")
    assert (
        show(client, service, *command)
        == show(client, "postfix", *command)
        == f"{SOCKETS[service]}:{IDS.sockets} 750\n"
    )


def test_directory_of_spf_results(client: docker.DockerClient) -> None:
    """policyd-spf and dmarc have the directory of their socket alike, and Postfix has none."""
    command = ("stat", "-c", "%u:%g %a", "/run/policyd-spf")
    expected = f"{IDS.policyd_spf}:{IDS.sockets} 750\n"
    assert show(client, "policyd-spf", *command) == show(client, "dmarc", *command) == expected
    assert show(client, "postfix", "sh", "-c", "test -e /run/policyd-spf || echo none") == "none\n"


def test_postfix_is_in_the_group_of_the_sockets(client: docker.DockerClient) -> None:
    """The user postfix has the pinned ids and is in the group that may connect."""
    assert show(client, "postfix", "id", "postfix").startswith(f"uid={IDS.postfix}(postfix) gid={IDS.postfix}(postfix)")
    assert f"{IDS.sockets}(mailstack)" in show(client, "postfix", "id", "postfix")


@pytest.mark.parametrize("image", ALL_NAMES)
def test_contexts_hold_no_secret_and_no_site(image: str) -> None:
    """A build context depends on nothing of a site: it takes the base image and the pinned ids, and no Stack."""
    context = build_context(image, PACKAGES)
    assert not re.search(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\n", b"".join(file.content for file in context.values()))
    # The builder's own modules name an example in what they say.
    assert b"example.com" not in b"".join(
        file.content for path, file in context.items() if not str(path).endswith(".py")
    )
    assert context.tar() == build_context(image, PACKAGES).tar()


def test_postsrsd_has_no_key(client: docker.DockerClient) -> None:
    """The key that the package makes at its installation is in no file of the image; every site has one of its own."""
    found = show(client, "postsrsd", "sh", "-c", "find / -xdev -name '*postsrsd*' -type f | sort").split()
    assert "/usr/sbin/postsrsd" in found
    assert not [one for one in found if "secret" in one or one.startswith("/etc/default")]
