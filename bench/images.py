"""The benchmark's own images: the references, and the hosts that send and receive."""

import ipaddress
from collections.abc import Collection, Mapping
from pathlib import Path

import docker

from mailstack.engine import images
from mailstack.render.templating import data_root, fill
from mailstack.stack.packages import Packages
from mailstack.tree import File, Tree
from mailstack.world.internet import EDGE

# Each stands on its parent's image.
REFERENCES: Mapping[str, str | None] = {
    "bare": None,
    "tutorial": "bare",
    "tutorial-opendmarc": "tutorial",
    "rspamd": "bare",
}
LOAD = "load"

# Places on the world's edge; sites have the addresses from 10 on.
RESOLVER = EDGE[100]
SINK = EDGE[101]
SENDERS = tuple(EDGE[at] for at in range(104, 112))
SENDERS_NETWORK = ipaddress.IPv4Network(f"{SENDERS[0]}/29")
REFERENCE_ADDRESSES = dict(zip(REFERENCES, (EDGE[at] for at in range(112, 120)), strict=False))

# Room for all sessions; the default is 100 (postconf(5), default_process_limit).
PROCESS_LIMIT = 400

RECIPIENT_DOMAIN = "recipient.example"

_SUFFIX = ".j2"


def contexts(base_image: str) -> dict[str, Tree]:
    """What each image is built from, in the order of building."""
    found: dict[str, Tree] = {}
    for name in (*REFERENCES, LOAD):
        found[name] = _context(name, base_image, {one: tag(one, context) for one, context in found.items()})
    return found


def tag(name: str, context: Tree) -> str:
    """An image's tag; changed files, its parent's included, are another image."""
    return f"mailstack-bench/{name}:{context.digest()[:12]}"


def build(client: docker.DockerClient, base_image: str, names: Collection[str] = (*REFERENCES, LOAD)) -> dict[str, str]:
    """Build the images of these names that the engine does not have, parents included in the names; the tag of each."""
    tags = {}
    for name, context in contexts(base_image).items():
        if name not in names:
            continue
        tags[name] = tag(name, context)
        if not images.exists(client, tags[name]):
            images.build(client, tags[name], context, Packages(base_image))
    return tags


def _context(name: str, base_image: str, built: Mapping[str, str]) -> Tree:
    root = data_root() / "bench" / (name if name == LOAD else f"references/{name}")
    values = {
        "base_image": base_image,
        "images": built,
        "sink": SINK,
        "process_limit": PROCESS_LIMIT,
        "resolver": RESOLVER,
        "recipient_domain": RECIPIENT_DOMAIN,
    }
    files = {}
    for path in sorted(root.rglob("*")):
        if path.is_file():
            rendered = path.suffix == _SUFFIX
            content = fill(path.relative_to(data_root()).as_posix(), **values) if rendered else path.read_bytes()
            target = path.relative_to(root).as_posix().removesuffix(_SUFFIX)
            files[target] = File(content, 0o755 if path.parent.name == "bin" else 0o644)
    if name == LOAD:
        files["send.py"] = File((Path(__file__).parent / "send.py").read_bytes())
    return Tree(files)
