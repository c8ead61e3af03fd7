"""The world itself."""

import docker
import pytest

from mailstack.world.internet import Internet


def test_a_machine_that_cannot_start(world: Internet, engine_client: docker.DockerClient) -> None:
    """It is gone with the error: its name and address are free for another try."""
    with pytest.raises(docker.errors.APIError, match=r"[Aa]ddress"):
        world.edge.start("twice", world.image, world.names.address, command=["sleep", "60"])
    assert not engine_client.containers.list(all=True, filters={"name": f"{world.edge.name}-twice"})
