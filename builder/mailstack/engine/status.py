"""How a stack is: its services as the engine sees them, and the queue as Postfix sees it."""

import contextlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import docker
from docker.models.containers import Container

from mailstack.engine import execution
from mailstack.engine.connection import Failure, reason
from mailstack.engine.images import age, exists
from mailstack.errors import EngineError

PROJECT, SERVICE = "com.docker.compose.project", "com.docker.compose.service"
_DIRECTORY = "com.docker.compose.project.working_dir"
# Not of "docker compose run".
LASTING = "com.docker.compose.oneoff=False"
# Reasons that are told of all for which messages wait.
_MOST_REASONS = 5
NOT_THERE = "not created"
# Asks milters as Postfix does at the start of a session (the option negotiation of the milter protocol), from its
# container; Perl is part of every Debian.
_ASK_MILTERS = r"""
use IO::Socket::INET; use IO::Socket::UNIX;
$SIG{ALRM} = sub { die "no answer within 3 seconds\n" };
for my $milter (@ARGV) {
    my $said = eval {
        alarm 3;
        my ($kind, $at, $reply) = split /:/, $milter, 2;
        my $socket = $kind eq 'unix' ? IO::Socket::UNIX->new(Peer => "/var/spool/postfix/$at")
                                     : IO::Socket::INET->new(PeerAddr => $at);
        die(($@ || $!) =~ s/^IO::Socket::\w+: |\n//gr . "\n") unless $socket;
        syswrite $socket, pack 'NaNNN', 13, 'O', 6, 0x1ff, 0x1fffff;
        sysread($socket, $reply, 5) && substr($reply, 4, 1) eq 'O' or die "not the answer of a milter\n";
        "\n";
    } || $@;
    alarm 0;
    print "$milter\t$said";
}
"""


@dataclass(frozen=True)
class Service:
    """One service. state is the engine's word or 'not created', health is empty without a health check.

    image_age is in days, None for an image that is not there; current says whether the container runs on the image
    and files of the last build.
    """

    name: str
    state: str
    health: str
    image: str
    image_age: int | None
    current: bool

    @property
    def well(self) -> bool:
        return self.state == "running" and self.health == "healthy" and self.current


@dataclass(frozen=True)
class Queued:
    """How many messages are in Postfix's queue, and for how many recipients each reason of the last try stands."""

    messages: int
    reasons: Mapping[str, int] = field(default_factory=dict)


def look(
    client: docker.DockerClient, project: str, wanted: Mapping[str, tuple[str, str]]
) -> tuple[list[Service], Queued | None]:
    """The services of a compose project, and Postfix's queue (None if Postfix does not say).

    wanted has the image and the place of the files of each service, as compose.yaml is to have them.
    """
    try:
        found = client.containers.list(all=True, ignore_removed=True, filters={"label": f"{PROJECT}={project}"})
        there = {one.labels.get(SERVICE): one for one in found}
        services = [_service(client, name, there.get(name), *built) for name, built in wanted.items()]
    except Failure as error:
        raise EngineError(f"cannot read the state of {project} from the engine: {reason(error)}") from None
    return services, _queue(client, there.get("postfix"))


def _service(client: docker.DockerClient, name: str, container: Container | None, image: str, files: str) -> Service:
    days = age(client, image) if exists(client, image) else None
    if container is None:
        return Service(name, NOT_THERE, "", image, days, current=False)
    state = container.attrs["State"]
    current = (
        container.attrs["Config"]["Image"] == image
        and days is not None
        and container.attrs["Image"] == client.images.get(image).id
        and container.labels.get("mailstack.files") == files
    )
    return Service(name, state["Status"], state.get("Health", {}).get("Status", ""), image, days, current)


def milters(client: docker.DockerClient, project: str, names: Sequence[str]) -> dict[str, str]:
    """What is wrong with each milter, as Postfix sees it; nothing if it answers, or if Postfix is not there.

    Of a Postfix that cannot be asked, such as one that restarts in a loop, each has the engine's reason.
    """
    found: dict[str, str] = {}
    if not names:
        return found
    for container in containers(client, project, "postfix"):
        try:
            said = execution.ask(client, str(container.id), ["perl", "-e", _ASK_MILTERS, *names]).stdout
        except (*Failure, OSError) as error:
            found |= dict.fromkeys(names, f"Postfix does not run the check: {reason(error)}")
            continue
        rows = [line.partition("\t") for line in said.decode(errors="replace").splitlines()]
        found |= {milter: fault for milter, _, fault in rows}
    return found


def sasl(client: docker.DockerClient, project: str, server: str | None) -> str:
    """What is wrong with the auth service of a Dovecot, as Postfix sees it; nothing if it answers, or as milters()."""
    if not server:
        return ""
    for container in containers(client, project, "postfix"):
        try:
            said = execution.ask(client, str(container.id), ["ask-dovecot", server, "now"]).stdout
        except (*Failure, OSError) as error:
            return f"Postfix does not run the check: {reason(error)}"
        return _printable(said.decode(errors="replace"))
    return ""


@dataclass(frozen=True)
class Certificates:
    """What Postfix presents, by its own program: certificates, faults for which the last ones go on, and remarks."""

    served: tuple[dict[str, Any], ...] = ()
    faults: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


NOTHING_SERVED = Certificates()


def certificates(client: docker.DockerClient, project: str) -> Certificates:
    """The certificates of a site; nothing where Postfix is not there or does not say."""
    for container in containers(client, project, "postfix"):
        with contextlib.suppress(*Failure, OSError):
            # The second has what keeps Postfix's program from looking; at a start there is none yet.
            files = ["/var/lib/certificates/state", "/dev/shm/certificates"]  # noqa: S108
            answer = execution.ask(client, str(container.id), ["cat", *files])
            if answer.stdout:
                rows = [
                    _printable(line, "\t").split("\t") for line in answer.stdout.decode("ascii", "replace").splitlines()
                ]
                return Certificates(
                    tuple(_served(*row) for kind, *row in rows if kind == "served" and len(row) == len(_SERVED)),
                    tuple(row[0] for kind, *row in rows if kind == "fault" and row),
                    tuple(row[0] for kind, *row in rows if kind == "remark" and row),
                )
    return NOTHING_SERVED


_SERVED = ("names", "until", "issuer", "file")


def _served(names: str, until: str, issuer: str, file: str) -> dict[str, Any]:
    """The names of a certificate, its end in UTC, whether an authority issued it, and its file."""
    return {"names": names.split(), "until": until, "self_signed": issuer == "self-signed", "file": file or None}


def containers(client: docker.DockerClient, project: str, service: str) -> list[Container]:
    """The containers of a service that were started and not stopped: those that restart and paused ones too."""
    labels = [f"{PROJECT}={project}", f"{SERVICE}={service}"]
    try:
        return client.containers.list(filters={"label": labels}, ignore_removed=True)
    except Failure as error:
        raise EngineError(f"cannot read the state of {service} from the engine: {reason(error)}") from None


def started_in(client: docker.DockerClient, project: str) -> list[str]:
    """The directories of compose.yaml by which a project's containers were started. Raises EngineError."""
    return sorted({one.get(_DIRECTORY, "") for one in _labels(client, project).values()} - {""})


def every_container(client: docker.DockerClient, project: str) -> dict[str, str]:
    """The id of each service's container, be it running or not. Raises EngineError."""
    return {labels.get(SERVICE, ""): one for one, labels in _labels(client, project).items()}


def _labels(client: docker.DockerClient, project: str) -> dict[str, dict[str, str]]:
    """The labels of a project's containers, by id."""
    try:
        found = client.api.containers(all=True, filters={"label": [f"{PROJECT}={project}", LASTING]})
    except Failure as error:
        raise EngineError(f"the engine does not list the containers of {project}: {reason(error)}") from None
    return {one["Id"]: one["Labels"] for one in found}


# Where services keep what they did with messages that they did not just accept (mailstack_auth.counts).
_COUNTS = {"dmarc": "/run/dmarc/counts.json", "policyd-spf": "/dev/shm/counts.json"}  # noqa: S108
# More messages than any service has counted.
_MANY = 2**63


def counts(client: docker.DockerClient, project: str) -> dict[str, dict[str, Any]]:
    """Of each service that judges messages: since when it counts, and how many were refused and so on, by rule."""
    found = {}
    for service, path in _COUNTS.items():
        for container in containers(client, project, service):
            # One that does not run has nothing to say, which the table of services shows.
            with contextlib.suppress(*Failure, OSError):
                answer = execution.ask(client, str(container.id), ["cat", path])
                counted = None if answer.status else _counted(answer.stdout)
                if counted:
                    found[service] = counted
    return found


def _counted(text: bytes) -> dict[str, Any] | None:
    """What a file of counts holds, without what is no count of a rule; None for one that is damaged."""
    try:
        data = json.loads(text)
        since = int(data["since"])
        datetime.fromtimestamp(since, UTC)
        actions = {_printable(action): _rules(rules) for action, rules in data["counts"].items()}
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, OSError, RecursionError):
        return None
    return {"since": since, "counts": {action: rules for action, rules in actions.items() if rules}}


def _rules(found: object) -> dict[str, int]:
    if not isinstance(found, dict):
        return {}
    return {_printable(rule): number for rule, number in found.items() if type(number) is int and 0 < number < _MANY}


def _printable(name: str, also: str = "") -> str:
    """A name without what would steer a terminal, or cannot be printed."""
    return "".join(letter for letter in name if letter.isprintable() or letter in also)


def mounted(client: docker.DockerClient) -> list[str]:
    """The host's paths that containers mount, be they running or not."""
    try:
        containers = client.api.containers(all=True)
    except Failure as error:
        raise EngineError(f"the engine does not list its containers: {reason(error)}") from None
    return [one["Source"] for container in containers for one in container["Mounts"] if one["Type"] == "bind"]


def _queue(client: docker.DockerClient, postfix: Container | None) -> Queued | None:
    if postfix is None:
        return None
    try:
        answer = execution.ask(client, str(postfix.id), ["postqueue", "-j"])
    except (*Failure, OSError):
        return None
    if answer.status:
        return None
    # A JSON object on each line (postqueue(1)).
    lines = answer.stdout.splitlines()
    found = Counter(
        _printable(recipient["delay_reason"])
        for line in lines
        for recipient in json.loads(line)["recipients"]
        if recipient.get("delay_reason")
    )
    return Queued(len(lines), dict(found.most_common(_MOST_REASONS)))
