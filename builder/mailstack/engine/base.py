"""A base image made from Debian's packages, for an engine that has no registry to pull from."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import docker

from mailstack import console
from mailstack.engine.connection import Failure, reason
from mailstack.engine.images import not_fetched, split
from mailstack.errors import EngineError
from mailstack.settings.model import PREFIX
from mailstack.stack.packages import Packages

RELEASE = "trixie"
_LOG_TAIL = 10
# As the slim images have it: no documentation, no locales; the licences stay.
_LEFT_OUT = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*")
_KEPT = ("/usr/share/doc/*/copyright",)


def make(client: docker.DockerClient, packages: Packages) -> None:
    """Make the base image by mmdebstrap(1), under its name."""
    if "@" in packages.base_image:
        raise EngineError(
            f"{PREFIX}BASE_IMAGE: {packages.base_image!r}: is a digest, which cannot be the name of a new image; "
            "write a name with a tag"
        )
    if not shutil.which("mmdebstrap"):
        raise EngineError(
            "mmdebstrap is not installed; install it (apt-get install mmdebstrap), or make the image on a machine that "
            "has it and copy it here (docker save, docker load)"
        )
    with tempfile.TemporaryDirectory(prefix="mailstack-") as directory:
        archive = Path(directory) / "base.tar"
        console.progress(f"making {packages.base_image} from Debian's packages")
        _bootstrap(archive, packages)
        name, tag = split(packages.base_image)
        try:
            client.api.import_image_from_file(str(archive), repository=name, tag=tag or "latest")
        except Failure as error:
            raise EngineError(f"{packages.base_image}: the engine rejected the image: {reason(error)}") from None


def _bootstrap(archive: Path, packages: Packages) -> None:
    options = ["--variant=minbase", "--include=ca-certificates"]
    options += [f"--dpkgopt=path-exclude={path}" for path in _LEFT_OUT]
    options += [f"--dpkgopt=path-include={path}" for path in _KEPT]
    if packages.proxy:
        options += [f'--aptopt=Acquire::{kind}::Proxy "{packages.proxy}"' for kind in ("http", "https")]
    # What is not fetched is an error here, not a warning.
    options.append('--aptopt=APT::Update::Error-Mode "any"')
    done = subprocess.run(
        ["mmdebstrap", *options, RELEASE, str(archive), *_sources(packages)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        log = "\n".join(done.stdout.splitlines()[-_LOG_TAIL:])
        raise EngineError(f"mmdebstrap failed:\n{log}\n{not_fetched(packages)}")


def _sources(packages: Packages) -> list[str]:
    """Lines of sources.list(5); none for Debian's own servers, which mmdebstrap knows."""
    if not packages.mirror:
        return []
    moment = f"/{packages.snapshot}" if packages.snapshot else ""
    # An old Release file has outlived its Valid-Until.
    option = "[check-valid-until=no] " if packages.snapshot else ""
    return [
        f"deb {option}{packages.mirror}{moment} {RELEASE} main",
        f"deb {option}{packages.mirror}{moment} {RELEASE}-updates main",
        f"deb {option}{packages.mirror}-security{moment} {RELEASE}-security main",
    ]
