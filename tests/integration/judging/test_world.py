"""The world itself."""

import http.client
import socket

import docker
import pytest

from mailstack.world.containers import Machine, wait_for
from mailstack.world.internet import Internet


def test_a_machine_that_cannot_start(world: Internet, engine_client: docker.DockerClient) -> None:
    """It is gone with the error: its name and address are free for another try."""
    with pytest.raises(docker.errors.APIError, match=r"[Aa]ddress"):
        world.edge.start("twice", world.image, world.names.address, command=["sleep", "60"])
    assert not engine_client.containers.list(all=True, filters={"name": f"{world.edge.name}-twice"})


def test_output_that_comes_before_it_is_read(outsider: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a command may have ended before the head of the engine's answer is read: nothing is lost."""
    begin = http.client.HTTPResponse.begin

    def late(answer: http.client.HTTPResponse) -> None:
        link = answer.fp.raw._sock
        if answer._method == "POST":
            # The answers to "create" and to "start".
            wait_for(
                lambda: any(one in link.recv(65536, socket.MSG_PEEK) for one in (b'"Id"', b"said")), "nothing comes"
            )
        begin(answer)

    monkeypatch.setattr(http.client.HTTPResponse, "begin", late)
    assert outsider.run("echo", "said") == "said\n"
