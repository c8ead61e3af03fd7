"""env.example and README say what the settings say."""

from pathlib import Path

from click.testing import CliRunner

from mailstack import environment, reference, settings
from mailstack.cli import main

CHECKOUT = Path(__file__).parents[2]


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
    environment.load(base)
    offered = [line[1:] for line in lines if line.startswith("#MAILSTACK_")]
    assert len(offered) == len(settings.Settings.model_fields) - len(reference.SET)
    for line in offered:
        (tmp_path / ".env").write_text("\n".join([*lines, line]))
        merged = environment.read_environment(tmp_path, {})
        merged["MAILSTACK_MAILBOXES"] += ",admin@example.com"
        merged.setdefault("MAILSTACK_APT_MIRROR", "http://mirror.example.com/debian")
        environment.load(merged)


def test_every_command_is_in_the_readme() -> None:
    """No verb is left undocumented, and every verb explains itself."""
    readme = (CHECKOUT / "README.md").read_text()
    for verb in ("build", "dns records"):
        assert f"mailstack {verb}" in readme
        result = CliRunner().invoke(main, [*verb.split(), "--help"])
        assert result.exit_code == 0
        assert "Usage:" in result.output
    names = {name for name in main.commands if f"mailstack {name}" not in readme}
    assert not names
