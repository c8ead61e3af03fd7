"""Readers of a delivered message, each with a parser of its own: whom it shows as author, and what results let pass.

They are naive where programs are: they take what the parser gives them, and look no further.
"""

import inspect
import json
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import Message
from email.utils import getaddresses
from functools import partial
from pathlib import Path
from typing import Any, Self

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
        return any(_within(host(author), domain) for author in self.authors)

    def lets_pass(self, domain: str) -> bool:
        """Whether a pass is for this domain, or one below it."""
        below = re.compile(rf"(?<![a-z0-9-]){re.escape(domain)}(?![a-z0-9-]|\.[a-z0-9])", re.IGNORECASE)
        return any(below.search(one) for one in self.passes)


Reader = Callable[[bytes, str], Reading]


def host(address: str) -> str:
    """What stands after the last "@", without what programs leave there; empty where there is none."""
    octets = address.rpartition("@")[2].encode("utf-8", "surrogateescape") if "@" in address else b""
    return octets.decode("utf-8", "surrogateescape").strip("<>()\"'., \t\r\n\0")


def _within(name: str, domain: str) -> bool:
    name = name.lower()
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
                authors += [one if "@" in one else f"@{one}" for one in of]
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
    return _by_text(message, _getaddresses(_from_texts(message)), authserv_id)


def by_decoding_python(content: bytes, authserv_id: str) -> Reading:
    """The same where a program decodes encoded words before it parses."""
    message = message_from_bytes(content, policy=policy.compat32)
    return _by_text(message, _getaddresses(map(_decoded, _from_texts(message))), authserv_id)


# Before the fix of CVE-2023-27043 there was no argument, and later ones take it to do as before.
_OLD: Mapping[str, Any] = {"strict": False} if "strict" in inspect.signature(getaddresses).parameters else {}


def _getaddresses(values: Iterable[str]) -> list[str]:
    return [address for _, address in getaddresses(list(values), **_OLD)]


def _from_texts(message: Message) -> list[str]:
    """The values of From without folds; what is not UTF-8 as surrogates."""
    values = [str(value) for name, value in message.raw_items() if name.strip().lower() == "from"]
    unfolded = [re.sub(r"\r?\n(?=[ \t])", "", one) for one in values]
    return [one.encode("ascii", "surrogateescape").decode("utf-8", "surrogateescape") for one in unfolded]


_WORD = re.compile(r"=\?[^?]*\?[bq]\?.*?\?=", re.IGNORECASE | re.DOTALL)


def _decoded(value: str) -> str:
    """With encoded words decoded, wherever they stand."""
    return _WORD.sub(_decoded_word, re.sub(r"\?=\s+=\?", "?==?", value))


def _decoded_word(word: re.Match[str]) -> str:
    try:
        ((octets, charset),) = decode_header(word[0])
    except (HeaderParseError, ValueError):
        return word[0]
    if isinstance(octets, str):
        return octets
    try:
        return octets.decode((charset or "ascii").partition("*")[0], "replace")
    except (LookupError, UnicodeError):
        return octets.decode("latin-1")


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


class Program:
    """Parsers of addresses in a container: a field's value in hexadecimal digits in, a line of JSON out."""

    def __init__(self, image: str, interpreter: str, script: str, parsers: Sequence[str]) -> None:
        self._parsers = parsers
        self._process = subprocess.Popen(
            [
                *("docker", "run", "--rm", "--interactive", "--network", "none", "--cap-drop", "ALL", "--read-only"),
                *("--volume", f"{Path(__file__).with_name(script)}:/{script}:ro", image, interpreter, f"/{script}"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # They complain about what they cannot read.
            stderr=subprocess.DEVNULL,
        )
        self._writer = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.shutdown()
        self._process.communicate(timeout=30)

    def readers(self) -> dict[str, Reader]:
        """Programs that use its parsers, and such that decode encoded words before they do."""
        return {
            f"{parser}{', decoded' if decode else ''}": partial(self._read, parser, decode)
            for parser in self._parsers
            for decode in (False, True)
        }

    def authors(self, messages: Sequence[bytes]) -> dict[str, list[list[str]]]:
        """Whom each of these programs shows as the authors of each message; all messages are on their way at once."""
        texts = [_from_texts(message_from_bytes(one, policy=policy.compat32)) for one in messages]
        found: dict[str, list[list[str]]] = {}
        for suffix, values in (("", texts), (", decoded", [list(map(_decoded, one)) for one in texts])):
            answers = iter(self._ask([value for one in values for value in one]))
            read = [[next(answers) for _ in one] for one in values]
            for parser in self._parsers:
                found[parser + suffix] = [[address for answer in one for address in answer[parser]] for one in read]
        return found

    def _read(self, parser: str, decode: bool, content: bytes, authserv_id: str) -> Reading:
        message = message_from_bytes(content, policy=policy.compat32)
        texts = _from_texts(message)
        answers = self._ask(list(map(_decoded, texts)) if decode else texts)
        return _by_text(message, [address for one in answers for address in one[parser]], authserv_id)

    def _ask(self, values: Sequence[str]) -> list[Mapping[str, list[str]]]:
        assert self._process.stdout is not None
        written = self._writer.submit(self._write, values)
        answers = [self._process.stdout.readline() for _ in values]
        written.result()
        assert all(answers), f"a reader ended with {self._process.wait()}"
        return [json.loads(one.decode("utf-8", "replace")) for one in answers]

    def _write(self, values: Sequence[str]) -> None:
        assert self._process.stdin is not None
        lines = [one.encode("utf-8", "surrogateescape").hex().encode() + b"\n" for one in values]
        self._process.stdin.write(b"".join(lines))
        self._process.stdin.flush()


def programs(image: str) -> tuple[Program, ...]:
    """Perl's modules, of which Email::Address::XS has Dovecot's parser; and nodemailer's addressparser."""
    perl = ("Email::Address", "Email::Address::XS", "Mail::Address")
    return Program(image, "perl", "reader.pl", perl), Program(image, "node", "reader.js", ("addressparser",))


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
