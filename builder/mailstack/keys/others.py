"""DKIM keys as other programs keep them: in which files, and for which domain and selector."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mailstack import reading
from mailstack.errors import DkimKeyError, os_reason

# Of a directory that somebody names by mistake, not everything is read.
_MOST_FILES, _MOST_OCTETS = 10_000, 64 * 1024
_PEM = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL)
_LABEL, _DOMAIN = r"[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?", r"[a-z0-9-]+(?:\.[a-z0-9-]+)+"
# What opendkim-genkey(8) writes beside a key.
_RECORD = re.compile(rf"^({_LABEL})\._domainkey(?:\.({_DOMAIN})\.?)?\s", re.IGNORECASE | re.MULTILINE)
_COMMENT = re.compile(rf"; ----- DKIM key {_LABEL} for ({_DOMAIN})", re.IGNORECASE)
# By the file's name: docker-mailserver with rspamd; Mailu and others with rspamd.
_NAMES = (
    re.compile(rf"(?:rsa-[0-9]+|ed25519)-(?P<selector>[a-z0-9_]+)-(?P<domain>{_DOMAIN})\.private\.txt", re.IGNORECASE),
    re.compile(rf"(?P<domain>{_DOMAIN})\.(?P<selector>{_LABEL})\.key", re.IGNORECASE),
)
# A line of OpenDKIM's KeyTable (opendkim.conf(5)): name, domain:selector:path.
_KEY_TABLE = re.compile(rf"^\S+\s+({_DOMAIN}):({_LABEL}):(\S+)\s*$", re.IGNORECASE | re.MULTILINE)
# A line before a key, as redis-cli prints mailcow's hash of keys.
_HEAD = re.compile(rf"({_LABEL})\.({_DOMAIN})\s*\Z", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """A private key as PEM, with what its file and those beside it say of its domain and selector."""

    path: Path
    pem: bytes
    domain: str | None
    selector: str | None


def find(path: Path) -> list[Found]:
    """The private keys in a file or below a directory. Raises DkimKeyError for one that cannot be read."""
    try:
        files = list(_files(path))
        tables = _tables(files)
        return [one for file in files for one in _keys(file, tables)]
    except OSError as error:
        raise DkimKeyError(f"{error.filename or path}: cannot be read: {os_reason(error)}") from None


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    count = 0

    def fail(error: OSError) -> None:
        raise error

    for place, below, names in os.walk(path, onerror=fail):
        below.sort()
        for name in sorted(names):
            count += 1
            if count > _MOST_FILES:
                raise DkimKeyError(f"{path}: holds more than {_MOST_FILES} files; name the directory that has the keys")
            file = Path(place, name)
            if file.is_file() and file.stat().st_size <= _MOST_OCTETS:
                yield file


def _tables(files: list[Path]) -> Mapping[tuple[str, ...], tuple[str, str]]:
    """Domain and selector by the last two parts of a path, as the tables of keys have them."""
    tables = [reading.content(one).decode(errors="replace") for one in files if one.name.lower() == "keytable"]
    rows = (row for text in tables for row in _KEY_TABLE.findall(text))
    return {Path(path).parts[-2:]: (domain, selector) for domain, selector, path in rows}


def _keys(file: Path, tables: Mapping[tuple[str, ...], tuple[str, str]]) -> Iterator[Found]:
    content = reading.content(file)
    end = 0
    for match in _PEM.finditer(content):
        head = _HEAD.search(
            content[end : match.start()].decode(errors="replace").strip().rpartition("\n")[2].strip('"')
        )
        end = match.end()
        domain, selector = (head[2], head[1]) if head else _of_file(file, tables)
        yield Found(file, match[0] + b"\n", domain and domain.lower(), selector and selector.lower())


def _of_file(file: Path, tables: Mapping[tuple[str, ...], tuple[str, str]]) -> tuple[str | None, str | None]:
    """Domain and selector, as far as they are known."""
    if file.parts[-2:] in tables:
        return tables[file.parts[-2:]]
    for pattern in _NAMES:
        if match := pattern.fullmatch(file.name):
            return match["domain"], match["selector"]
    beside = file.with_suffix(".txt")
    if beside != file and beside.is_file():
        text = reading.content(beside).decode(errors="replace")
        record, comment = _RECORD.search(text), _COMMENT.search(text)
        if record:
            return record[2] or (comment[1] if comment else _domain(file)), record[1]
    if file.suffix == ".private":
        # A key for each domain in a directory of its name, or in a file of its name.
        above = _domain(file)
        return (above, file.stem) if above else (_name(file.stem), None)
    return None, None


def _domain(file: Path) -> str | None:
    """The directory's name, if that is a domain's."""
    return _name(file.absolute().parent.name)


def _name(text: str) -> str | None:
    return text if re.fullmatch(_DOMAIN, text, re.IGNORECASE) else None
