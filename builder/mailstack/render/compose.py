"""Stack → Tree: the files of a site and the build contexts of the images. Pure."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from mailstack.render.overrides import applied
from mailstack.render.templating import data_root, fill
from mailstack.stack.limits import limits
from mailstack.stack.model import Stack
from mailstack.stack.packages import Packages
from mailstack.stack.services import IDS, SERVICES
from mailstack.tree import File, Tree
from mailstack.values.mail import junk_address
from mailstack.values.network import Network
from mailstack.version import version

SITE = ".mailstack"
COMPOSE = "compose.yaml"
# The compose.yaml before that one.
PREVIOUS = f"{SITE}/previous.yaml"
# images/<service>/site/<path in the container>.j2
_SITE_SUFFIX = ".j2"
# Directories of images/_python that an image's Dockerfile copies.
_PYTHON = dict.fromkeys(("policyd-spf", "dmarc"), ("mailstack_auth",))
_EXECUTABLE = 0o755
_INSTALL = "install-packages"


def build_context(image: str, packages: Packages) -> Tree:
    """What an image is built from: a Dockerfile and the files that go into it. Holds nothing of a site."""
    root = data_root() / "images" / image
    dockerfile = fill(f"images/{image}/Dockerfile.j2", image=image, packages=packages, ids=IDS)
    install = data_root() / "images" / "_build" / _INSTALL
    files = {"Dockerfile": File(dockerfile), _INSTALL: File(install.read_bytes(), _EXECUTABLE)}
    for path in sorted(root.glob("rootfs/**/*")):
        if path.is_file():
            # Everything in a bin directory is run; git alone does not carry the other bits of a mode.
            mode = _EXECUTABLE if path.parent.name == "bin" else 0o644
            files[path.relative_to(root).as_posix()] = File(path.read_bytes(), mode)
    for package in _PYTHON.get(image, ()):
        source = data_root() / "images" / "_python"
        for path in sorted((source / package).glob("**/*.py")):
            files[path.relative_to(source).as_posix()] = File(path.read_bytes())
    return Tree(files)


def image_name(image: str, packages: Packages) -> str:
    """The tag of an image: the digest of what it is built from, so that changed files are another image."""
    return f"mailstack/{image}:{build_context(image, packages).digest()[:12]}"


def image_names(images: Iterable[str], packages: Packages) -> dict[str, str]:
    """The tag of each image."""
    return {image: image_name(image, packages) for image in images}


def services(stack: Stack, overrides: Mapping[str, str] = MappingProxyType({})) -> dict[str, Tree]:
    """What is mounted into each service's container, by its path there."""
    return {service: applied(service, _service(service, stack), overrides) for service in SERVICES}


def site(stack: Stack, overrides: Mapping[str, str] = MappingProxyType({})) -> Tree:
    """The files of a site as they are where nothing was built before, and images are named by their contexts."""
    parts = services(stack, overrides)
    places = {service: f"{service}/{part.digest()[:12]}" for service, part in parts.items()}
    return assembled(stack, parts, image_names(SERVICES, stack.packages), places)


def assembled(stack: Stack, parts: Mapping[str, Tree], images: Mapping[str, str], places: Mapping[str, str]) -> Tree:
    """The services' files as SITE/<place>/<path in the container>, and the compose.yaml that mounts them."""
    tree = Tree({})
    for service, part in parts.items():
        tree |= part.under(f"{SITE}/{places[service]}")
    compose = fill(
        "compose/compose.yaml.j2",
        stack=stack,
        version=version(),
        images=images,
        limits=limits(stack),
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


def _service(service: str, stack: Stack) -> Tree:
    root = data_root() / "images" / service / "site"
    files = {}
    for path in sorted(root.glob(f"**/*{_SITE_SUFFIX}")):
        name = path.relative_to(root).as_posix()
        content = fill(f"images/{service}/site/{name}", stack=stack, **_VIEWS)
        files[name.removesuffix(_SITE_SUFFIX)] = File(content)
    return Tree(files)


def _mounts(place: str, part: Tree) -> list[tuple[str, str]]:
    return [(f"./{SITE}/{place}/{path}", f"/{path}") for path in part]


def _bracketed(network: Network) -> str:
    """A network as Postfix writes it: IPv6 in brackets (postconf(5), mynetworks)."""
    return f"[{network.network_address}]/{network.prefixlen}" if network.version == 6 else str(network)  # noqa: PLR2004


def _mailbox_path(mailbox: str) -> str:
    local, _, domain = mailbox.rpartition("@")
    return f"{domain}/{local}/Maildir/"


_VIEWS = {"bracketed": _bracketed, "mailbox_path": _mailbox_path, "junk_address": junk_address, "json": json.dumps}
