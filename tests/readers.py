"""Readers of a delivered message, each with a parser of its own: whom it shows as author, and what results let pass.

They are naive where programs are: they take what the parser gives them, and look no further.
"""

import json
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import Message
from email.utils import getaddresses
from pathlib import Path
from typing import Self

import authres

import received_spf

_METHODS = ("spf", "dkim", "dmarc")
# Which properties say for whom a result is.
_IDENTITIES = ("smtp.mailfrom", "smtp.helo", "header.d", "header.i", "header.from")
_PASS = re.compile(r"\b(?:spf|dkim|dmarc)\s*=\s*\"?pass\b", re.IGNORECASE)
_COMMENT = re.compile(r"\([^()]*\)")
_DMARC = re.compile(r"\bdmarc\s*=\s*\"?(\w+)", re.IGNORECASE)


@dataclass(frozen=True)
class Reading:
    """What a reader sees: the authors' addresses, the texts or identities that passes are for, and DMARC's result."""

    authors: tuple[str, ...]
    passes: tuple[str, ...]
    dmarc: str | None

    def shows(self, domain: str) -> bool:
        """Whether an author is of this domain, or of one below it."""
        return any(_within(author.rpartition("@")[2], domain) for author in self.authors)

    def lets_pass(self, domain: str) -> bool:
        """Whether a pass is for this domain, or one below it."""
        below = re.compile(rf"(?<![a-z0-9-]){re.escape(domain)}(?![a-z0-9-]|\.[a-z0-9])", re.IGNORECASE)
        return any(below.search(one) for one in self.passes)


Reader = Callable[[bytes, str], Reading]


def _within(text: str, domain: str) -> bool:
    name = text.strip("<>()\"'., \t\r\n\0").lower()
    return name == domain or name.endswith(f".{domain}")


def by_authres(content: bytes, authserv_id: str) -> Reading:
    """The authres package; what it cannot read it does not show. It reads no From, only what DMARC was asked about."""
    authors, passes, dmarc = [], [], None
    message = message_from_bytes(content, policy=policy.compat32)
    for value in map(_text, message.get_all("Authentication-Results", [])):
        try:
            field = authres.AuthenticationResultsHeader.parse(f"Authentication-Results: {value}")
        except authres.AuthResError:
            continue
        if field.authserv_id.lower() != authserv_id:
            continue
        for result in field.results:
            of = [str(one.value) for one in result.properties if f"{one.type}.{one.name}".lower() in _IDENTITIES]
            if result.result.lower() == "pass":
                passes += of
            if result.method.lower() == "dmarc":
                dmarc = result.result
                authors += of
    return Reading(tuple(authors), (*passes, *_by_received_spf(message)), dmarc)


def by_python(content: bytes, authserv_id: str) -> Reading:
    """Python's email package as it is now."""
    message = message_from_bytes(content, policy=policy.default)
    authors = []
    try:
        authors = [one.addr_spec for field in message.get_all("From", []) for one in field.addresses]
    except (AttributeError, IndexError, TypeError, ValueError):
        # Its parser knows not all of what it reads.
        authors = []
    return _by_text(message, authors, authserv_id)


def by_old_python(content: bytes, authserv_id: str) -> Reading:
    """Python's email package as it was, whose way of reading addresses is another one."""
    message = message_from_bytes(content, policy=policy.compat32)
    authors = [address for _, address in getaddresses(list(map(_text, message.get_all("From", []))))]
    return _by_text(message, authors, authserv_id)


def _by_text(message: Message, authors: Iterable[str], authserv_id: str) -> Reading:
    """Results as programs find them by a pattern, between semicolons."""
    passes, dmarc = [], None
    for value in map(_text, message.get_all("Authentication-Results", [])):
        start, _, results = value.partition(";")
        if authserv_id not in start.lower():
            continue
        # A comment may hold a semicolon; some know that, some do not.
        elements = [*results.split(";"), *_COMMENT.sub("", results).split(";")]
        passes += [one for one in elements if _PASS.search(one)]
        found = _DMARC.search(results)
        dmarc = found[1].lower() if found else dmarc
    return Reading(tuple(authors), (*passes, *_by_received_spf(message)), dmarc)


def _by_received_spf(message: Message) -> Iterator[str]:
    """Whom the first Received-SPF, which is the one that the last host wrote, lets pass."""
    value = message["Received-SPF"]
    if value is not None:
        yield from _passed(_text(value))


def _passed(value: str) -> Iterator[str]:
    result, pairs = received_spf.parse(f"Received-SPF: {value}")
    if result == "pass":
        # A sender that has no plain spelling is left out.
        yield pairs.get("envelope-from" if pairs["identity"] == "mailfrom" else "helo", "").rpartition("@")[2]


def _text(value: object) -> str:
    return " ".join(str(value).split())


class Rspamd:
    """rspamd's parsers of messages, addresses and results, in a container."""

    def __init__(self, image: str) -> None:
        script = Path(__file__).with_name("rspamd_reader.lua")
        self._process = subprocess.Popen(
            [
                *("docker", "run", "--rm", "--interactive", "--network", "none", "--cap-drop", "ALL"),
                *("--tmpfs", "/var/lib/rspamd", "--volume", f"{script}:/reader.lua:ro"),
                *("--entrypoint", "rspamadm", image, "lua", "--batch", "/reader.lua"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # It complains that it has no DNS.
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=30)

    def __call__(self, content: bytes, authserv_id: str) -> Reading:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"%d\n" % len(content) + content)
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"rspamadm ended with {self._process.wait()}"
        read = json.loads(answer.decode("utf-8", "replace"))
        passes, dmarc = [], None
        for field in read["results"]:
            if authserv_id not in field["id"].lower():
                continue
            for element in map(_as_mapping, field["elements"]):
                if any(str(element.get(method, "")).lower() == "pass" for method in _METHODS):
                    passes += [str(element[one]) for one in _IDENTITIES if one in element]
                dmarc = element.get("dmarc", dmarc)
        passes += [one for value in read["received_spf"][:1] for one in _passed(value)]
        return Reading(tuple(read["authors"]), tuple(passes), dmarc)


def _as_mapping(value: Mapping[str, str] | Sequence[object]) -> Mapping[str, str]:
    """An empty table of Lua is an empty array in JSON."""
    return value if isinstance(value, Mapping) else {}
