"""The log lines of dmarc, policyd-spf and opendkim."""

import json
import re
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, NamedTuple

from mailstack.trace.event import NOTE, QUEUE_ID, VERDICT, Event, clean

_VERDICT = re.compile(rb'\{"time": \d+, "queue_id": "(%b)", (.*)' % QUEUE_ID.encode(), re.DOTALL)
_DMARC = re.compile(rb"dmarc: (%b): (.*)" % QUEUE_ID.encode(), re.DOTALL)
_SPF = re.compile(rb"policyd-spf: (%b): (.*)" % QUEUE_ID.encode(), re.DOTALL)
_OPENDKIM = re.compile(rb"\w{3} [ \d]\d [\d:]{8} (?:\S+ )?opendkim\[\d+\]: (%b): (.*)" % QUEUE_ID.encode(), re.DOTALL)
_DECISION = re.compile(r"client=\S+ identity=\w+ domain='(.*?)' result=(\w+) action=(\S+)(?: reason=(.*))?$")
_SIGNED = re.compile(r"DKIM-Signature field added \(s=(\S+), d=(\S+)\)")
_UNSIGNED = re.compile(r"no signing table match for '(.*)'$")
_ACTED = re.compile(r"(?:error=.* )?action=(\w+)(?: reason='(.*)')?$")
_ADDED = re.compile(r"added Message-ID (<.*>)$")
# What opendkim says of each message from outside before it verifies.
_USUAL = re.compile(r"not authenticated$|.* not internal$")
# Signatures that are shown.
_MAX_SIGNATURES = 5
# With these, Postfix goes on.
_GOES_ON = {"PREPEND", "DUNNO", "OK"}


class Line(NamedTuple):
    """A line about a message."""

    queue_id: str
    event: Event


def line(service: str, text: bytes, wanted: Container[str] | None = None) -> Line | None:
    """What a line of a service says, if it is about a message, and about one of those wanted."""
    for form, read in JUDGES[service]:
        found = form.match(text)
        queue_id = found[1].decode("ascii") if found else ""
        if found and (wanted is None or queue_id in wanted):
            try:
                return Line(queue_id, read(found[2].decode("utf-8", "replace")))
            except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
                # The line of a service that was killed as it wrote.
                return None
    return None


def _verdict(text: str) -> Event:
    """docs/dmarc.md, "The verdict line"."""
    found = json.loads(f"{{{text}")
    action, reason = str(found["action"]), str(found["reason"])
    about = {
        "sender": _address(found["envelope_from"]),
        "author": clean(str(found["from"])),
        "message_id": clean(str(found["message_id"])),
        "envelope_to": tuple(_address(one) for one in found.get("envelope_to", [])),
        "action": action,
    }
    results = _results(found["auth_results"], found) if "auth_results" in found else "no unambiguous author"
    return Event(VERDICT, clean(results if action == "accept" else f"{results}; {action}: {reason}"), about=about)


def _results(results: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    spf = results["spf"]
    parts = [f"SPF {spf['result']}{_in_brackets(spf['domain'])}" if spf else "SPF not checked"]
    shown = [f"DKIM {one['result']}{_in_brackets(one['domain'], one['reason'])}" for one in results["dkim"]]
    parts += shown[:_MAX_SIGNATURES] or ["no DKIM signature"]
    if len(shown) > _MAX_SIGNATURES:
        parts.append(f"{len(shown) - _MAX_SIGNATURES} more signatures")
    return ", ".join([*parts, f"DMARC {found['result']}{_in_brackets(found['header_from'])}"])


def _in_brackets(*parts: str | None) -> str:
    text = ": ".join(filter(None, parts))
    return f" ({text})" if text else ""


def _address(path: object) -> str:
    return clean(str(path).removeprefix("<").removesuffix(">"))


def _dmarc(text: str) -> Event:
    if added := _ADDED.match(text):
        return Event(NOTE, clean(f"got the Message-ID {added[1]}"), about={"message_id": clean(added[1])})
    if acted := _ACTED.match(text):
        return Event(VERDICT, clean(f"dmarc: {acted[1]}: {acted[2] or 'internal error'}"), about={"action": acted[1]})
    return Event(NOTE, clean(f"dmarc: {text}"))


def _spf(text: str) -> Event:
    decided = _DECISION.match(text)
    if not decided:
        return Event(NOTE, clean(f"policyd-spf: {text}"))
    domain, result, action, reason = decided.groups()
    if domain or result == "none":
        text = f"SPF {result}{_in_brackets(domain, reason and reason.strip(chr(39)))}"
    else:
        text = f"SPF not checked: {result}"
    if action == "reject_unknown_sender_domain":
        text += "; the domain has neither MX nor address"
    elif action not in _GOES_ON:
        text += f"; policyd-spf answers {action}"
    # dmarc's verdict has the result, too.
    return Event(VERDICT, clean(text), about={"spf_only": action in _GOES_ON})


def _opendkim(text: str) -> Event:
    if signed := _SIGNED.match(text):
        return Event(NOTE, clean(f"signed with DKIM for {signed[2]}, selector {signed[1]}"))
    if unsigned := _UNSIGNED.match(text):
        return Event(NOTE, clean(f"not signed with DKIM: {unsigned[1]} is not of a domain that is signed here"))
    return Event(NOTE, "" if _USUAL.match(text) else clean(f"opendkim: {text}"))


JUDGES: Mapping[str, Sequence[tuple[re.Pattern[bytes], Callable[[str], Event]]]] = {
    "opendkim": [(_OPENDKIM, _opendkim)],
    "policyd-spf": [(_SPF, _spf)],
    "dmarc": [(_VERDICT, _verdict), (_DMARC, _dmarc)],
}
