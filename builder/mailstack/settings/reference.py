"""env.example and the settings table of README.md, made from the settings' own descriptions.

Run "python -m mailstack.settings.reference" in a checkout to write them.
"""

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from mailstack.settings.model import Settings, example, variable

WIDTH = 110
# What env.example sets; the rest stands there as a comment, with its example.
SET = {
    "hostname": "mail.example.com",
    "domains": "example.com,example.net",
    "mailboxes": "user@example.com,info@example.net",
}
_HEAD = "# Settings of mailstack. Copy this file to .env and change it; then run: mailstack build\n"
SYNTAX = """\
# Lists take commas or blanks. Put values with $ or # in single quotes: docker compose reads the same file and would
# replace them.
"""
_MARK = re.compile(r"(<!-- settings -->\n).*?(<!-- /settings -->)", re.DOTALL)


def default_text(field: FieldInfo) -> str:
    """The default as one would write it in .env; empty for "not set" and for an empty list."""
    return value_text(None if field.default is PydanticUndefined else field.default)


def env_file(chosen: Mapping[str, str], head: str) -> str:
    """A .env with every setting explained; chosen has the values that are in force, by setting."""
    parts = [head + SYNTAX]
    for name, field in Settings.model_fields.items():
        lines = textwrap.wrap(field.description or "", WIDTH - 2)
        default = default_text(field)
        if not field.is_required() and default:
            lines.append(f"Default: {default}")
        value = chosen.get(name)
        mark = "" if value else "#"
        line = f"{mark}{variable(name)}={quoted(value or example(name))}"
        parts.append("\n".join([*(f"# {text}" for text in lines), line]) + "\n")
    return "\n".join(parts)


def env_example() -> str:
    """The content of env.example: a .env that works as it stands."""
    return env_file(SET, _HEAD)


def table() -> str:
    """The settings as a Markdown table."""
    rows = ["| variable | default | meaning | example |", "| --- | --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = "required" if field.is_required() else f"`{default_text(field)}`" if default_text(field) else ""
        meaning = (field.description or "").replace("|", "\\|")
        rows.append(f"| `{variable(name)}` | {default} | {meaning} | `{example(name)}` |")
    return "\n".join(rows) + "\n"


def settings_rows(chosen: Settings, given: Mapping[str, str]) -> list[dict[str, str]]:
    """Every setting with the value in force and its source; given has the sources of what is set, by variable."""
    rows = []
    for name, field in Settings.model_fields.items():
        source = given.get(variable(name), "default")
        value = default_text(field) if source == "default" else value_text(getattr(chosen, name))
        rows.append({"variable": variable(name), "value": value, "source": source})
    return rows


def quoted(value: str) -> str:
    """In single quotes where compose, a shell or .env's grammar would see more than a value."""
    if re.fullmatch(r"[\w.,:;/@=+%\[\]-]*", value):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def value_text(value: Any) -> str:  # noqa: ANN401
    """A value as one would write it in .env."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(value_text(one) for one in value)
    return str(value)


def with_table(readme: str) -> str:
    """README's text with the table between its marks."""
    return _MARK.sub(lambda match: match[1] + table() + match[2], readme)


def main() -> None:
    Path("env.example").write_text(env_example())
    readme = Path("README.md")
    readme.write_text(with_table(readme.read_text()))


if __name__ == "__main__":
    main()
