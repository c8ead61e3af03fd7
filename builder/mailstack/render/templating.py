"""The product's own files (Dockerfiles, daemon configuration, compose) and how they are filled in."""

from functools import cache
from importlib import resources
from pathlib import Path

import jinja2


@cache
def data_root() -> Path:
    """The directory that holds images/ and compose/: inside the wheel, else the checkout."""
    packed = Path(str(resources.files("mailstack"))) / "_data"
    return packed if packed.is_dir() else Path(__file__).resolve().parents[3]


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(data_root()),
        undefined=jinja2.StrictUndefined,
        # The output is configuration of daemons, never HTML; values are validated where they enter (mailstack.values).
        autoescape=False,  # noqa: S701
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["octal"] = lambda mode: f"{mode:04o}"
    return environment


def fill(template: str, **values: object) -> bytes:
    """Render the template at a path below data_root(); an undefined name is an error."""
    return _environment().get_template(template).render(**values).encode()
