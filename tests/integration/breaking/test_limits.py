"""A service that wants too much is ended and comes back, or gets no more; nothing is lost, and no other one notices."""

import contextlib

import docker
import pytest

from integration.breaking.test_health import SUPERVISED, wait_healthy
from integration.breaking.test_volumes import assert_receives
from mailstack.errors import EngineError
from mailstack.services import SERVICE_NAMES
from mailstack.stack.services import services
from mailstack.world.containers import Machine, wait_for
from mailstack.world.site import Site
from support import count, flush_until_delivered, message, subject

# As the daemon's user: make the daemon the one that the kernel ends first, as if the memory were its own, and take 3 GB.
LEAK = r"""
open my $list, '<', '/proc/1/task/1/children';
for my $process (1, split ' ', <$list> // '') {
    open my $file, '>', "/proc/$process/oom_score_adj" or next;
    print {$file} 1000;
}
my @held;
push @held, 'x' x 1e6 for 1 .. 3000;
"""
# Start processes until there are no more, or 3000; say how many, and end them.
SWARM = r"""
my @started;
while (@started < 3000) {
    my $process = fork // last;
    if (!$process) { sleep 60; exit }
    push @started, $process;
}
kill 'KILL', @started;
1 while wait > 0;
print scalar @started;
"""
USERS = {
    "postfix": "root",
    "opendkim": "opendkim",
    "policyd-spf": "policyd-spf",
    "dmarc": "dmarc",
    "resolver": "unbound",
}


@pytest.mark.parametrize("service", SERVICE_NAMES)
def test_memory(
    service: str, foxtrot: Site, bravo: Site, outsider: Machine, engine_client: docker.DockerClient
) -> None:
    """A service that leaks is ended at its limit and started again; what it had accepted arrives, once."""
    about, container = subject(f"before {service} was ended"), foxtrot.container(service)
    before = {one: engine_client.api.inspect_container(foxtrot.container(one)) for one in SERVICE_NAMES}

    def ended() -> bool:
        if service in SUPERVISED and any(
            "worker was killed by signal 9 (SIGKILL)" in line for line in foxtrot.log(service)
        ):
            return True
        return bool(engine_client.api.inspect_container(container)["RestartCount"] > before[service]["RestartCount"])

    foxtrot.sendmail(message("user@foxtrot.example", "user@bravo.example", about), "-t")
    with contextlib.suppress(EngineError):  # ends with the container
        foxtrot.run(service, "perl", "-e", LEAK, user=USERS[service])
    wait_for(ended, f"{service} went on")
    wait_healthy(foxtrot)
    for one in set(SERVICE_NAMES) - {service}:
        now = engine_client.api.inspect_container(foxtrot.container(one))
        assert now["State"]["StartedAt"] == before[one]["State"]["StartedAt"]
    flush_until_delivered(foxtrot, bravo, "user@bravo.example", about)
    assert count(bravo, "user@bravo.example", about) == 1
    assert_receives(foxtrot, "user@foxtrot.example", outsider)


@pytest.mark.parametrize("service", SERVICE_NAMES)
def test_processes(service: str, foxtrot: Site, outsider: Machine) -> None:
    """A service that starts processes without end gets so many; the others do not notice, and it is well afterwards."""
    started = int(foxtrot.run(service, "perl", "-e", SWARM))
    (limit,) = [one.limits.processes for one in services(foxtrot.stack) if one.name == service]
    assert 0 < started < limit
    wait_healthy(foxtrot)
    assert_receives(foxtrot, "user@foxtrot.example", outsider)
