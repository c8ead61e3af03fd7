"""env.example and README say what the settings say."""

from pathlib import Path

import click

from mailstack.cli.app import main
from mailstack.settings import environment, reference
from mailstack.settings import model as settings
from mailstack.settings.load import load

CHECKOUT = Path(__file__).parents[3]


def test_env_example_is_made_from_the_settings() -> None:
    """A changed setting without "make reference" is noticed."""
    assert (CHECKOUT / "env.example").read_text() == reference.env_example()


def test_readme_table_is_made_from_the_settings() -> None:
    """The same for README's table, which names every setting."""
    readme = (CHECKOUT / "README.md").read_text()
    assert readme == reference.with_table(readme)
    for name in settings.Settings.model_fields:
        assert f"| `MAILSTACK_{name.upper()}` |" in readme


def test_env_example_is_valid(tmp_path: Path) -> None:
    """It works as it stands, and with every commented line put in force one at a time."""
    lines = reference.env_example().splitlines()
    (tmp_path / ".env").write_text("\n".join(lines))
    base = environment.read_environment(tmp_path, {})
    load(base)
    offered = [line[1:] for line in lines if line.startswith("#MAILSTACK_")]
    assert len(offered) == len(settings.Settings.model_fields) - len(reference.SET)
    for line in offered:
        (tmp_path / ".env").write_text("\n".join([*lines, line]))
        merged = environment.read_environment(tmp_path, {})
        merged["MAILSTACK_MAILBOXES"] += ",admin@example.com"
        merged.setdefault("MAILSTACK_APT_MIRROR", "http://mirror.example.com/debian")
        merged.setdefault("MAILSTACK_POSTSCREEN", "on")
        relay = {
            "HOST": "smtp.example.net",
            "USER": "user",
            "PASSWORD": "secret",
            "HOSTS": "example.net=smtp.example.net",
        }
        for name, value in relay.items():
            merged.setdefault(f"MAILSTACK_RELAY_{name}", value)
        load(merged)


def commands(group: click.Group, prefix: str = "") -> dict[str, click.Command]:
    """Every command that does something, by its words."""
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        words = f"{prefix}{name}"
        found |= commands(command, f"{words} ") if isinstance(command, click.Group) else {words: command}
    return found


def test_every_command_is_documented() -> None:
    """No verb is left out of README and docs, and every verb and option explains itself."""
    text = "\n".join(path.read_text() for path in (CHECKOUT / "README.md", *CHECKOUT.glob("docs/*.md")))
    for words, command in commands(main).items():
        assert f"mailstack {words}" in text
        assert command.help
        assert all(one.help for one in command.params if isinstance(one, click.Option))
