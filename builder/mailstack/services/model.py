"""What a container is. Only what a service has beside the common hardening is said of it."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field

# Postfix's, and its chroot.
QUEUE_DIRECTORY = "/var/spool/postfix"


@dataclass(frozen=True)
class Limits:
    """Memory in MiB, with what lies in the container's tmpfs; processes and threads together."""

    memory: int
    processes: int


@dataclass(frozen=True)
class Kept:
    """What a backup takes of a volume; what is its name in the list of a backup.

    files has the directories whose files count, with the permission bits of those that are complete; None: all files.
    Of all directories owner and mode are kept. final says that a file never changes once it is there.
    """

    what: str
    files: Mapping[str, int] | None = None
    final: bool = False


@dataclass(frozen=True)
class Volume:
    """A directory that outlives containers, or that several share. options are those of the engine's local driver.

    Without kept, a backup leaves it out.
    """

    name: str
    at: str
    options: Mapping[str, str] = field(default_factory=dict)
    why: str = ""
    kept: Kept | None = None


@dataclass(frozen=True)
class Directory:
    """A directory of the host that a container reads, and whose files may change while it runs."""

    source: str
    at: str


@dataclass(frozen=True)
class Tmpfs:
    """A directory in memory, of size MiB; owner: user and group, who alone may enter it."""

    at: str
    size: int
    owner: tuple[int, int] | None = None
    why: str = ""

    def __str__(self) -> str:
        owner = "uid={},gid={},mode=0700,".format(*self.owner) if self.owner else ""
        return f"{self.at}:{owner}size={self.size}m"


@dataclass(frozen=True)
class Secret:
    """A file of the site that only one container sees, with its path below /run/secrets there."""

    name: str
    file: str
    at: str


@dataclass(frozen=True)
class Service:
    """A container of the stack. Its image is built from the folder of images/ that has its name.

    The image says the rest: files below its site/ are rendered and mounted, and its check-configuration, where it has
    one, sees them first.
    """

    name: str
    uid: int
    networks: tuple[str, ...]
    limits: Limits
    # Seconds to end what is in hand.
    grace: int
    # Whether it listens in a directory of its name in Postfix's chroot, which belongs to its user.
    socket: bool = False
    # By name (capabilities(7)), with what each is for.
    capabilities: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[Volume, ...] = ()
    directories: tuple[Directory, ...] = ()
    secrets: tuple[Secret, ...] = ()
    tmpfs: tuple[Tmpfs, ...] = ()
    sysctls: Mapping[str, int] = field(default_factory=dict)
    # Files that overrides/<name>/ adds to, by their path in the container.
    overridable: Mapping[str, str] = field(default_factory=dict)
    # What a site decides.
    hostname: str | None = None
    ports: tuple[str, ...] = ()
    addresses: Mapping[str, ipaddress.IPv4Address] = field(default_factory=dict)
    name_servers: tuple[str, ...] = ()

    @property
    def all_volumes(self) -> tuple[Volume, ...]:
        """With that of its socket."""
        return (socket_of(self.name), *self.volumes) if self.socket else self.volumes


def socket_of(service: str) -> Volume:
    """The volume of a service's socket, which lies where Postfix's chroot expects it, on both sides."""
    return Volume(f"{service}-socket", f"{QUEUE_DIRECTORY}/{service}")
