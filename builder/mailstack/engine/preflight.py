"""What the engine is like, where that matters for mail."""

import docker


def warnings(client: docker.DockerClient) -> list[str]:
    """Set-ups in which clients never show their own address, as sentences."""
    about = client.info()
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
