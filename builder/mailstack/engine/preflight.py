"""What the engine is like, where that matters for mail."""

import docker

from mailstack.engine.connection import Failure, reason
from mailstack.errors import EngineError


def warnings(client: docker.DockerClient) -> list[str]:
    """Set-ups in which clients never show their own address, as sentences."""
    try:
        about = client.info()
    except Failure as error:
        raise EngineError(f"the engine does not say what it is: {reason(error)}") from None
    found = []
    if any("rootless" in option for option in about.get("SecurityOptions") or ()):
        found.append("rootless engine")
    if "Docker Desktop" in str(about.get("OperatingSystem", "")):
        found.append("Docker Desktop")
    return [
        f"{kind}: clients will arrive under the gateway's address, so SPF fails for everybody; "
        "nobody is trusted for that address. Run the stack on an engine that keeps client addresses"
        for kind in found
    ]
