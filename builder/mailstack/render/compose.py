"""A site as docker compose runs it: compose.yaml, and the files that it mounts."""

import hashlib
from collections.abc import Mapping
from types import MappingProxyType

from mailstack.render.contexts import image_names
from mailstack.render.site import files
from mailstack.render.templating import fill
from mailstack.stack.model import Stack
from mailstack.stack.services import service_names, services
from mailstack.tree import File, Tree
from mailstack.version import version

SITE = ".mailstack"
COMPOSE = "compose.yaml"
# The compose.yaml before that one.
PREVIOUS = f"{SITE}/previous.yaml"


def site(stack: Stack, overrides: Mapping[str, str] = MappingProxyType({})) -> Tree:
    """The files of a site as they are where nothing was built before, and images are named by their contexts."""
    parts = files(stack, overrides)
    places = {service: f"{service}/{part.digest()[:12]}" for service, part in parts.items()}
    return assembled(stack, parts, image_names(service_names(stack), stack.packages), places)


def assembled(stack: Stack, parts: Mapping[str, Tree], images: Mapping[str, str], places: Mapping[str, str]) -> Tree:
    """The services' files as SITE/<place>/<path in the container>, and the compose.yaml that mounts them."""
    tree = Tree({})
    for service, part in parts.items():
        tree |= part.under(f"{SITE}/{places[service]}")
    running = services(stack)
    compose = fill(
        "compose/compose.yaml.j2",
        stack=stack,
        version=version(),
        services=running,
        volumes={volume.name: volume for one in running for volume in one.all_volumes}.values(),
        secrets={secret.name: secret for one in running for secret in one.secrets}.values(),
        images=images,
        # Other files are in another place, so compose recreates the container. Of a key the public half counts
        # (key.records): labels and paths are public.
        places=places,
        mounts={service: _mounts(places[service], part) for service, part in parts.items()},
    )
    return tree | Tree({COMPOSE: File(_sealed(compose))})


def _sealed(content: bytes) -> bytes:
    """With the checksum of what follows in its first line, so that a later build sees whether it was edited."""
    return f"# sha256 {hashlib.sha256(content).hexdigest()}\n".encode() + content


def edited(content: bytes) -> bool:
    """Whether a compose.yaml of ours was changed after it was written."""
    seal, _, rest = content.partition(b"\n")
    return seal + b"\n" + rest != _sealed(rest)


def _mounts(place: str, part: Tree) -> list[tuple[str, str]]:
    return [(f"./{SITE}/{place}/{path}", f"/{path}") for path in part]
