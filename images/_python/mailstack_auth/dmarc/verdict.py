"""What is done with a message from outside, once SPF, DKIM and DMARC are known. Decisions only, no look-ups."""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from mailstack_auth import names
from mailstack_auth.dmarc.discovery import Policy
from mailstack_auth.dmarc.evidence import Evidence, TempFailure
from mailstack_auth.site import Site
from mailstack_auth.spf.evaluation import Result as SpfResult
from mailstack_auth.spf.policy import refusal

Action = Literal["accept", "quarantine", "reject", "discard", "defer"]
Rule = Literal["", "author", "local sender", "DMARC", "SPF", "DNS", "header", "internal error"]

# Where a message names a domain.
_Name = Literal["MAIL FROM", "From"]
_NAMES: tuple[_Name, ...] = ("MAIL FROM", "From")


class Outcome(NamedTuple):
    """What is done, and why. The disposition is DMARC's own part of it; override says why it is less than published."""

    action: Action
    reply: str | None = None
    reason: str = ""
    # Which rule decided, for the counts.
    rule: Rule = ""
    disposition: Policy = "none"
    override: str | None = None


def decide(evidence: Evidence, site: Site) -> Outcome:
    """Local domains first, then DMARC, then SPF."""
    spared = _spared(evidence, site)
    disposition, override = _disposition(evidence, site, spared=spared)
    rules = (
        _local(evidence, site, spared=spared),
        _by_dmarc(evidence, site, disposition, spared=spared),
        _by_spf(evidence, site),
    )
    found = [one for one in rules if one]
    # What one rule would put aside, another may refuse.
    outcome = next((one for one in found if one.action != "quarantine"), next(iter(found), Outcome("accept")))
    return outcome._replace(disposition=disposition, override=override)


def given_up(outcome: Outcome, site: Site) -> Outcome:
    """What becomes of a message that has waited for DNS long enough."""
    reason = f"{outcome.reason} for {site.dns_hours} hours"
    if site.dns_action == "reject":
        # RFC 3463: the directory server failure, for good.
        return outcome._replace(action="reject", reply=f"550 5.4.3 {reason}", reason=reason)
    return outcome._replace(action="quarantine", reply=None, reason=reason)


def leaving(outcome: Outcome, evidence: Evidence, site: Site) -> Outcome:
    """What becomes of a message of which a copy goes on to another server.

    SPF passes there for the host name, by the envelope sender that the copy gets (SRS) or by HELO, and so would DMARC
    for every author of the organization. What is not known to come from there is not forwarded, whoever brings it.
    """
    if not evidence.forwarded or outcome.action not in {"accept", "quarantine"}:
        return outcome
    found = _misusing(outcome, evidence, site) or _akin(outcome, evidence)
    if found is None:
        return outcome
    failure, rejection = found
    # What DNS has not said in time, it does not say.
    return _defer(failure) if failure and outcome.rule != "DNS" else rejection


def _misusing(outcome: Outcome, evidence: Evidence, site: Site) -> tuple[TempFailure | None, Outcome] | None:
    """For what uses our domains without their leave: the lookup that could show it, and the rejection."""
    for where in _NAMES:
        if ours := _forged(_named(where, evidence), evidence, site):
            reason = f"{_misuse(where, evidence)}, so it is not forwarded"
            rejection = outcome._replace(
                action="reject", reply=f"550 5.7.1 {reason}", reason=reason, rule="local sender"
            )
            return _maybe(evidence, ours), rejection
    return None


def _akin(outcome: Outcome, evidence: Evidence) -> tuple[TempFailure | None, Outcome] | None:
    """For what has an author of the host's organization, without a DMARC pass: likewise."""
    if evidence.akin is False:
        return None
    failure = evidence.failure if evidence.akin else TempFailure(f"the organizational domain of {evidence.author}")
    reason = f"{evidence.author} has no DMARC pass, so it is not forwarded"
    rejection = outcome._replace(action="reject", reply=f"550 5.7.26 {reason}", reason=reason, rule="DMARC")
    return failure, rejection._replace(disposition="reject", override="local_policy")


def _spared(evidence: Evidence, site: Site) -> bool:
    """Whether the message comes from a forwarder or mailing list that the site trusts."""
    if site.skip_networks:
        address = names.address(evidence.client)
        if any(address in one for one in site.skip_networks):
            return True
    return any(names.within(domain, one) for one in site.skip_domains for domain in evidence.authenticated())


def _maybe(evidence: Evidence, domains: Iterable[str]) -> TempFailure | None:
    """The lookup that could have authenticated one of these domains, or a name below it."""
    below = tuple(domains)
    return next((one for one in evidence.failures if any(names.within(one.domain, domain) for domain in below)), None)


def _local(evidence: Evidence, site: Site, *, spared: bool) -> Outcome | None:
    """Mail that uses a domain of ours without its leave, in MAIL FROM or in From."""
    if site.local_sender is None:
        return None
    if ours := _forged(evidence.sender, evidence, site):
        return _without_leave("MAIL FROM", evidence, ours, site)
    if not spared and (ours := _forged(evidence.author, evidence, site)):
        return _without_leave("From", evidence, ours, site)
    return None


def _forged(domain: str | None, evidence: Evidence, site: Site) -> list[str]:
    """The domains of ours that a message uses by this name, where nothing shows that it may."""
    ours = site.ours(domain)
    allowed = any(names.within(one, own) for one in evidence.authenticated() for own in ours)
    return [] if allowed else ours


def _without_leave(where: _Name, evidence: Evidence, ours: Sequence[str], site: Site) -> Outcome:
    # What is spared by From, or shown to be allowed, may be known once DNS answers.
    failure = _maybe(evidence, [*ours, *(site.skip_domains if where == "From" else ())])
    reason = _misuse(where, evidence)
    if failure is None and evidence.indirect:
        return Outcome("quarantine", reason=reason, rule="local sender")
    failure = failure or next(iter(evidence.failures), None)
    if failure:
        return _defer(failure)
    if where == "MAIL FROM" and site.local_sender == "discard" and not evidence.returned:
        # A bounce would go to the person whose address was used. One to an SRS address finds the original sender.
        return Outcome("discard", reason=reason, rule="local sender")
    return Outcome("reject", f"550 5.7.1 {reason}", reason, "local sender")


def _misuse(where: _Name, evidence: Evidence) -> str:
    return f"{where} uses our domain {_named(where, evidence)} without an SPF or DKIM pass for it"


def _named(where: _Name, evidence: Evidence) -> str | None:
    return evidence.sender if where == "MAIL FROM" else evidence.author


def _disposition(evidence: Evidence, site: Site, *, spared: bool) -> tuple[Policy, str | None]:
    """What DMARC asks for, and why that is less than published (RFC 9990, PolicyOverride)."""
    if evidence.published is None or evidence.dmarc != "fail":
        return "none", None
    policy = evidence.published.applied
    if policy != "none" and spared:
        return "none", "trusted_forwarder"
    if policy != "none" and site.dmarc == "mark":
        return "none", "local_policy"
    if policy == "reject" and site.dmarc == "follow" and evidence.indirect:
        return "quarantine", "local_policy"
    return policy, "policy_test_mode" if policy != evidence.published.policy else None


def _by_dmarc(evidence: Evidence, site: Site, disposition: Policy, *, spared: bool) -> Outcome | None:
    # "p=none" may change nothing (RFC 9989 section 5.4), and a fail would be spared here.
    published = evidence.published
    harmless = spared or site.dmarc == "mark" or (published is not None and published.applied == "none")
    if evidence.dmarc == "temperror" and not harmless:
        return _defer(evidence.failure or TempFailure(f"the DMARC record of {evidence.author}"))
    if disposition == "none":
        return None
    # Whoever is spared, or handed the message on, may be known once DNS answers.
    failure = _maybe(evidence, site.skip_domains)
    if not failure and disposition == "reject" and site.dmarc == "follow":
        failure = next(iter(evidence.failures), None)
    if failure:
        return _defer(failure)
    if disposition == "quarantine":
        return Outcome("quarantine", reason=f"DMARC policy of {evidence.author}", rule="DMARC")
    reason = f"DMARC: rejected by policy of {evidence.author} (neither SPF nor DKIM passes with an aligned domain)"
    return Outcome("reject", f"550 5.7.26 {reason}", reason, "DMARC")


def _by_spf(evidence: Evidence, site: Site) -> Outcome | None:
    """SPF's fail, which an aligned DKIM pass outweighs; MAIL FROM of our own domains is not judged by it."""
    judged = evidence.spf.judged
    if site.spf_fail != "reject" or judged is None or evidence.dkim_aligned:
        return None
    if judged.identity == "mailfrom" and site.ours(judged.domain):
        return None
    if judged.result == "temperror" and site.spf_temperror == "defer":
        return _defer(TempFailure(f"the SPF record of {judged.domain}"))
    return _spf_fail(judged, evidence) if judged.result == "fail" else None


def _spf_fail(judged: SpfResult, evidence: Evidence) -> Outcome:
    if evidence.failure and evidence.failure.domain:
        return _defer(evidence.failure)
    refused = refusal(judged, evidence.client, doubtful=evidence.spf.doubtful)
    if not refused.final:
        return _defer(TempFailure("the SPF record of a trusted forwarder"))
    return Outcome("reject", str(refused.action), refused.reason, "SPF")


def _defer(failure: TempFailure) -> Outcome:
    # RFC 3463: 4.4.3 is a directory server that failed.
    reason = f"DNS lookup of {failure.what} failed"
    return Outcome("defer", f"451 4.4.3 {reason}, please retry", reason, "DNS")
