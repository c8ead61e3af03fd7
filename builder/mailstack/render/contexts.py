"""What images are built from, and how they are named."""

import re
from collections.abc import Iterable

from mailstack.render.templating import data_root, fill
from mailstack.services import SERVICES
from mailstack.services.ids import IDS
from mailstack.stack.packages import Packages
from mailstack.tree import File, Tree

# A script of an image: exit status 0, or what is wrong on its output.
CHECK = "usr/local/bin/check-configuration"
_EXECUTABLE = 0o755
_INSTALL = "install-packages"


def build_context(image: str, packages: Packages) -> Tree:
    """What an image is built from: a Dockerfile and the files that go into it. Holds nothing of a site."""
    root = data_root() / "images" / image
    dockerfile = fill(f"images/{image}/Dockerfile.j2", image=image, packages=packages, ids=IDS, services=SERVICES)
    install = data_root() / "images" / "_build" / _INSTALL
    files = {"Dockerfile": File(dockerfile), _INSTALL: File(install.read_bytes(), _EXECUTABLE)}
    for path in sorted(root.glob("rootfs/**/*")):
        if path.is_file():
            # Everything in a bin directory is run; git alone does not carry the other bits of a mode.
            mode = _EXECUTABLE if path.parent.name == "bin" else 0o644
            files[path.relative_to(root).as_posix()] = File(path.read_bytes(), mode)
    source = data_root() / "images" / "_python"
    for package in re.findall(r"^COPY (\w+)/ ", dockerfile.decode(), re.MULTILINE):
        for path in sorted((source / package).glob("**/*.py")):
            files[path.relative_to(source).as_posix()] = File(path.read_bytes())
    return Tree(files)


def is_checked(image: str) -> bool:
    """Whether an image has a program that looks into a site's files before they are written."""
    return (data_root() / "images" / image / "rootfs" / CHECK).is_file()


def image_name(image: str, packages: Packages) -> str:
    """The tag of an image: the digest of what it is built from, so that changed files are another image."""
    return f"mailstack/{image}:{build_context(image, packages).digest()[:12]}"


def image_names(images: Iterable[str], packages: Packages) -> dict[str, str]:
    """The tag of each image."""
    return {image: image_name(image, packages) for image in images}
