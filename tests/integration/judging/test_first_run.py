"""A newcomer's first run: "make up" in a fresh checkout, and a message in a mailbox."""

import json
import re
import shutil
import subprocess
import sys
from email.message import EmailMessage
from pathlib import Path

from testcontainers.compose import DockerCompose

from integration.conftest import CHECKOUT, MadeUp
from integration.conftest import run_in as run
from mailstack.services import SERVICE_NAMES
from mailstack.world.containers import wait_for
from support import subject


def test_every_service_is_healthy(stack_of_env_example: DockerCompose) -> None:
    """All services run and their health checks have passed."""
    states = {one.Service: (one.State, one.Health) for one in stack_of_env_example.get_containers()}
    assert states == dict.fromkeys(SERVICE_NAMES, ("running", "healthy"))


def test_make_up_says_what_runs_and_what_comes_next(made_up: MadeUp) -> None:
    """After "make up" a person has seen the records, the services' health, and the commands of a first message."""
    assert "example.com. 3600 IN MX 10 mail.example.com." in made_up.stdout
    healthy = re.findall(r"^(\S+) +running healthy", made_up.stdout, flags=re.MULTILINE)
    assert healthy == list(SERVICE_NAMES)
    assert "compose exec -T postfix sendmail -f user@example.com -t" in made_up.stdout
    assert "cat /var/vmail/example.com/user/Maildir/new/*" in made_up.stdout
    assert "compose up" not in made_up.stderr
    environment = made_up.directory / ".env"
    assert environment.read_text() == (made_up.directory / "env.example").read_text()
    assert environment.stat().st_mode & 0o777 == 0o600


def test_readme_shows_what_is_seen(made_up: MadeUp) -> None:
    """What README shows of "make up" was said, line for line; digests, times and what is cut short apart."""
    block = (CHECKOUT / "README.md").read_text().partition("$ make up\n")[2].partition("```")[0]
    said = made_up.stdout + made_up.stderr
    shown = block.partition("\nchecking")[2].splitlines()[1:]
    assert len(shown) > 15
    for line in shown:
        pattern = ".*".join(map(re.escape, line.split("…")))
        pattern = re.sub("[0-9a-f]{12}", "[0-9a-f]{12}", pattern)
        pattern = re.sub("s[0-9]{8}", "s[0-9]{8}", pattern)
        pattern = pattern.replace(f"{len(SERVICE_NAMES)}\\ images", f"[0-{len(SERVICE_NAMES)}] images")
        assert re.search(f"^{pattern}$", said, flags=re.MULTILINE), line


def test_status(stack_of_env_example: DockerCompose, env_example: Path) -> None:
    """Status says that all is well, as a table and as JSON; with a service stopped it says which, and ends with 5."""
    status = [sys.executable, "-m", "mailstack", "status"]
    assert run(env_example, *status).returncode == 0
    data = json.loads(run(env_example, *status, "--json").stdout)
    assert (data["well"], data["queue"], data["records"]) == (True, 0, 14)
    assert {one["name"]: one["well"] for one in data["services"]} == dict.fromkeys(SERVICE_NAMES, True)
    assert data["keys"] == [
        {
            "record": "default._domainkey.example.com",
            "bits": 2048,
            "file": "secrets/dkim/default._domainkey.example.com.pem",
        }
    ]
    run(env_example, "docker", "compose", "stop", "policyd-spf")
    try:
        done = run(env_example, *status)
        assert done.returncode == 5
        assert re.search(r"^policyd-spf +exited", done.stdout, flags=re.MULTILINE)
        assert re.search("mail-example-com: policyd-spf is not running; see '.*compose logs policyd-spf'", done.stderr)
    finally:
        assert run(env_example, "docker", "compose", "up", "--detach", "--wait").returncode == 0


def test_an_edited_compose_file_is_kept(engine: None, tmp_path: Path) -> None:
    """What a person wrote into compose.yaml is not lost: the next build says where it is."""
    shutil.copy(CHECKOUT / "env.example", tmp_path / ".env")
    build = [sys.executable, "-m", "mailstack", "build"]
    assert run(tmp_path, *build).returncode == 0
    built = (tmp_path / "compose.yaml").read_text()
    edited = built.replace("restart: unless-stopped", "restart: always")
    (tmp_path / "compose.yaml").write_text(edited)
    done = run(tmp_path, *build)
    assert "compose.yaml had been edited; your version is saved as compose.yaml.edited" in done.stderr
    assert (tmp_path / "compose.yaml").read_text() == built
    assert (tmp_path / "compose.yaml.edited").read_text() == edited
    assert warnings(run(tmp_path, *build).stderr) == []


def warnings(said: str) -> list[str]:
    """The warnings of a build, but for the one about a site's missing certificate."""
    return [one for one in said.splitlines() if "warning" in one and "tls is empty" not in one]


def test_first_message(stack_of_env_example: DockerCompose, env_example: Path) -> None:
    """README's first message lands in the mailbox of env.example."""
    about = subject("first message")
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "user@example.com", "user@example.com", about
    message.set_content("It works.")
    sent = subprocess.run(
        ["docker", "compose", "exec", "-T", "postfix", "sendmail", "-t"],
        cwd=env_example,
        input=message.as_bytes(),
        check=False,
        capture_output=True,
    )
    assert sent.returncode == 0, sent.stderr

    def arrived() -> bool:
        found = run(
            env_example,
            "docker",
            "compose",
            "exec",
            "-T",
            "postfix",
            "sh",
            "-c",
            "cat /var/vmail/example.com/user/Maildir/new/*",
        )
        # Beside it may lie what other tests sent.
        return f"Subject: {about}" in found.stdout.splitlines()

    assert wait_for(arrived, "the message did not arrive")


def test_nothing_changed(stack_of_env_example: DockerCompose, env_example: Path) -> None:
    """A second build writes no file and builds no image, and compose then leaves every container alone."""
    # The copy that was built with has no git, and so another version, which stands in compose.yaml.
    assert run(env_example, sys.executable, "-m", "mailstack", "build").returncode == 0
    before = {path: path.stat().st_mtime_ns for path in env_example.rglob("*")}
    ids = {one.Service: one.ID for one in stack_of_env_example.get_containers()}
    done = run(env_example, sys.executable, "-m", "mailstack", "build")
    assert "0 files written, 0 images built" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in env_example.rglob("*")} == before
    assert run(env_example, "docker", "compose", "up", "--detach", "--wait").returncode == 0
    assert {one.Service: one.ID for one in stack_of_env_example.get_containers()} == ids


def test_a_changed_setting_recreates_its_service_alone(stack_of_env_example: DockerCompose, env_example: Path) -> None:
    """After a changed SPF action only policyd-spf is another container."""
    ids = {one.Service: one.ID for one in stack_of_env_example.get_containers()}
    environment = env_example / ".env"
    environment.write_text(environment.read_text() + "\nMAILSTACK_SPF_SOFTFAIL=reject-early\n")
    assert run(env_example, sys.executable, "-m", "mailstack", "build").returncode == 0
    done = run(env_example, "docker", "compose", "up", "--detach", "--wait")
    assert done.returncode == 0, done.stderr
    now = {one.Service: one.ID for one in stack_of_env_example.get_containers()}
    assert {service for service in ids if ids[service] != now[service]} == {"policyd-spf"}


def test_wrong_settings_write_nothing(tmp_path: Path) -> None:
    """Faults end with exit code 2, all of them named, and the directory stays as it was."""
    (tmp_path / ".env").write_text("MAILSTACK_HOSTNAME=mail\nMAILSTACK_DOMAINS=*\nMAILSTACK_MAILBOX=user@example.com\n")
    done = run(tmp_path, sys.executable, "-m", "mailstack", "build")
    assert done.returncode == 2
    assert done.stdout == ""
    for words in ("MAILSTACK_HOSTNAME: 'mail'", "MAILSTACK_DOMAINS: '*'", "did you mean MAILSTACK_MAILBOXES?"):
        assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [".env"]


def test_json_records_are_for_programs(env_example: Path) -> None:
    """The JSON form is JSON and nothing else on stdout."""
    done = run(env_example, sys.executable, "-m", "mailstack", "dns", "records", "--format", "json")
    assert done.returncode == 0
    assert {row["type"] for row in json.loads(done.stdout)} == {"MX", "TXT", "CNAME"}


def test_changes_that_need_a_person(engine: None, env_example: Path, tmp_path: Path) -> None:
    """A new host name and a new key are built, with a warning about what runs and what is not published yet."""
    environment = tmp_path / ".env"
    shutil.copy(env_example / ".env", environment)
    first = run(tmp_path, sys.executable, "-m", "mailstack", "build")
    assert (first.returncode, warnings(first.stderr)) == (0, [])
    renamed = environment.read_text().replace("=mail.example.com", "=mx.example.com")
    environment.write_text(renamed + "\nMAILSTACK_DKIM_SELECTOR=s2\n")
    second = run(tmp_path, sys.executable, "-m", "mailstack", "build")
    assert second.returncode == 0
    assert "compose -p mail-example-com down" in second.stderr
    assert "publish the record s2._domainkey.example.com now" in second.stderr
    third = run(tmp_path, sys.executable, "-m", "mailstack", "build")
    assert (third.returncode, warnings(third.stderr)) == (0, [])
