"""What the documents name is there: tests, files; and what docs/faults.md says of the rendered files holds."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from mailstack.render import SITE, site
from unit.sites import stack

CHECKOUT = Path(__file__).parents[2]
DOCUMENTS = sorted([*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/*.md")])
FAULTS = CHECKOUT / "docs/faults.md"
# Says of each command that it does not run itself where that is done.
ELSEWHERE = CHECKOUT / "tests/integration/test_documents.py"
_NODE_ID = re.compile(r"(tests/[\w/]+\.py)::(\w+)")
_LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")


def node_ids(text: str) -> set[tuple[str, str]]:
    return set(_NODE_ID.findall(text))


def functions_of(file: str) -> set[str]:
    """The names of a file's test functions; of none if there is no such file."""
    path = CHECKOUT / file
    body = ast.parse(path.read_text()).body if path.is_file() else []
    return {one.name for one in body if isinstance(one, ast.FunctionDef) and one.name.startswith("test_")}


def test_named_tests_exist():
    """Every pytest node id in a document, or where one stands for a document's command, is a test."""
    named = {one for document in (*DOCUMENTS, ELSEWHERE) for one in node_ids(document.read_text())}
    assert len(named) > 50
    assert [f"{file}::{name}" for file, name in sorted(named) if name not in functions_of(file)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda one: one.name)
def test_relative_links(document: Path):
    """Every link to another file of the project leads to one."""
    links = _LINK.findall(document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_every_fault_is_held_or_not_built_yet():
    """No row of the table is empty: it names a test, or says that the part is not built yet."""
    rows = [line for line in FAULTS.read_text().splitlines() if line.startswith("| ")]
    rows = [line for line in rows if not line.startswith(("| ---", "| fault |"))]
    assert len(rows) > 40
    assert [row for row in rows if not node_ids(row) and "Not built yet" not in row] == []


def test_socket_paths_hold_in_the_chroot():
    """No Unix socket in Postfix's configuration has an absolute path."""
    text = "".join(
        site(stack())[f"{SITE}/postfix/etc/postfix/{name}"].content.decode() for name in ("main.cf", "master.cf")
    )
    paths = re.findall(r"(?:unix|local):(\S+)", text)
    assert len(paths) >= 2
    assert [path for path in paths if path.startswith("/")] == []


def test_what_is_written_lies_on_volumes():
    """A mount that a container may write to is a named volume; a secret asks for no owner and no mode."""
    compose = yaml.safe_load(site(stack())["compose.yaml"].content)
    for service in compose["services"].values():
        for mount in service["volumes"]:
            if isinstance(mount, str):
                assert mount.partition(":")[0] in compose["volumes"]
            else:
                assert mount["read_only"]
        assert all(secret.keys() == {"source", "target"} for secret in service.get("secrets", []))
