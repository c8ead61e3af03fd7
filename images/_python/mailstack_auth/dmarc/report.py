"""What is written down of a message: the results in Authentication-Results, and a line for aggregate reports."""

import time
from collections.abc import Sequence

from mailstack_auth import names
from mailstack_auth.dkim.signatures import Signature
from mailstack_auth.dmarc.evidence import Evidence
from mailstack_auth.dmarc.verdict import Outcome
from mailstack_auth.header import authres
from mailstack_auth.milter.message import Message

# Results, and recipients, that are written down. Of thousands of results, the next server would cut what comes behind
# them off (Postfix, header_size_limit), and they would push all else out of the log.
MAX_RESULTS = 20


def results(evidence: Evidence, outcome: Outcome) -> list[str]:
    """The results that Authentication-Results holds."""
    spf, published = evidence.spf.identifier, evidence.published
    if spf is None:
        found = [authres.result("spf", "none", {}, comment=f"not checked: {evidence.spf.exempt}")]
    else:
        scope = "smtp.mailfrom" if spf.identity == "mailfrom" else "smtp.helo"
        found = [authres.result("spf", spf.result, {scope: spf.domain or None})]
    for one in _reported(evidence):
        shown = {"header.d": one.domain, "header.s": one.selector, "header.a": one.algorithm, "header.b": one.start[:8]}
        found.append(authres.result("dkim", one.result, shown if one.domain else {}, one.key, one.reason))
    if not evidence.signatures:
        found.append(authres.result("dkim", "none", {}))
    comment = f"p={published.policy} dis={outcome.disposition}" if published else ""
    properties = {"header.from": evidence.author, "policy.dmarc": published.applied if published else None}
    return [*found, authres.result("dmarc", evidence.dmarc, properties, comment)]


def entry(message: Message, evidence: Evidence | None, outcome: Outcome, count: int) -> dict[str, object]:
    """The line of the log about a message, which is the count-th with its result."""
    found = {
        "time": int(time.time()),
        "queue_id": message.queue_id,
        "action": outcome.action,
        "reason": outcome.reason,
        "result": result_of(evidence),
        "count": count,
        "source_ip": message.client,
        "envelope_from": text(message.sender),
        "envelope_to": [text(one) for one in message.recipients[:MAX_RESULTS]],
        "from": text(_first(message, b"from")),
        "message_id": text(_first(message, b"message-id")),
    }
    return found | _report(evidence, outcome) if evidence else found


def result_of(evidence: Evidence | None) -> str:
    """DMARC's result; a word for a message whose author nobody knows."""
    return evidence.dmarc if evidence else "ambiguous"


def _report(evidence: Evidence, outcome: Outcome) -> dict[str, object]:
    """What an aggregate report says of a message (RFC 9990 section 3.1)."""
    spf, published = evidence.spf.identifier, evidence.published
    return {
        "header_from": evidence.author,
        "policy_published": published
        and {
            "domain": published.record.domain,
            "p": published.record.p,
            "sp": published.record.sp,
            "np": published.record.np,
            "adkim": published.record.adkim,
            "aspf": published.record.aspf,
            "testing": "y" if published.record.testing else "n",
            "fo": published.record.fo,
            "discovery_method": "treewalk",
        },
        "rua": published.record.rua if published else "",
        "policy_evaluated": {
            "disposition": outcome.disposition,
            "dkim": "pass" if evidence.dkim_aligned else "fail",
            "spf": "pass" if evidence.spf_aligned else "fail",
            "override": outcome.override,
        },
        "auth_results": {
            "spf": spf and {"domain": spf.domain, "scope": _SCOPES[spf.identity], "result": spf.result},
            "dkim": [
                {"domain": one.domain, "selector": one.selector, "result": one.result, "reason": one.reason}
                for one in _reported(evidence)
                if one.domain
            ],
        },
    }


_SCOPES = {"mailfrom": "mfrom", "helo": "helo"}


def _reported(evidence: Evidence) -> Sequence[Signature]:
    """The signatures whose results are written down; of too many those that pass, and those that could align."""
    if len(evidence.signatures) <= MAX_RESULTS:
        return evidence.signatures

    def weight(one: Signature) -> tuple[bool, tuple[bool, int]]:
        return one.result != "pass", names.distance(one.domain or "", evidence.author or "")

    chosen = sorted(evidence.signatures, key=weight)[:MAX_RESULTS]
    return sorted(chosen, key=lambda one: one.at)


def _first(message: Message, name: bytes) -> bytes:
    found = message.fields.named(name)
    return found[0].value if found else b""


def text(octets: bytes) -> str:
    """What a client sent, for a line of JSON."""
    return " ".join(octets.decode("utf-8", "backslashreplace").split())[:320]
