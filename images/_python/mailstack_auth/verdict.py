"""What is done with a message from outside, once SPF, DKIM and DMARC are known. Decisions only, no look-ups."""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from mailstack_auth import names
from mailstack_auth.dmarc import Policy, Published
from mailstack_auth.evaluation import Result as SpfResult
from mailstack_auth.policy import Network, refusal
from mailstack_auth.signatures import Signature

Action = Literal["accept", "quarantine", "reject", "discard", "defer"]


@dataclass(frozen=True)
class Site:
    """The site's settings."""

    hostname: str
    local_domains: tuple[str, ...]
    # "follow" what the author domain publishes, or only "mark".
    dmarc: Literal["follow", "mark"] = "follow"
    spf_fail: str = "reject"
    # None: local domains are not looked at here.
    local_sender: Literal["discard", "reject"] | None = "discard"
    skip_networks: tuple[Network, ...] = ()
    skip_domains: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Site":
        return cls(
            hostname=data["hostname"],
            local_domains=tuple(data["local_domains"]),
            dmarc=data["dmarc"],
            spf_fail=data["spf_fail"],
            local_sender=data["local_sender"],
            skip_networks=tuple(ipaddress.ip_network(one) for one in data["skip_networks"]),
            skip_domains=tuple(data["skip_domains"]),
        )


@dataclass(frozen=True)
class Spf:
    """What policyd-spf said of a message."""

    # MAIL FROM's result; for the null sender HELO's (RFC 7208 section 2.4). None: the client is exempt.
    identifier: SpfResult | None
    # The one that policyd-spf goes by; not always the same.
    judged: SpfResult | None
    exempt: str | None = None
    doubtful: bool = False

    @property
    def passed(self) -> str | None:
        """The authenticated domain."""
        return self.identifier.domain if self.identifier and self.identifier.result == "pass" else None


class Doubt(NamedTuple):
    """What cannot be checked now, and why, with the status of RFC 3463: 4.4.3 is a directory server that failed."""

    what: str
    why: str = "DNS gives no answer"
    status: str = "4.4.3"


class Facts(NamedTuple):
    """What is known of a message. Domains are in lower case and A-labels."""

    client: str
    # The envelope sender's domain; None for the null sender, and for what is no domain.
    sender: str | None
    author: str
    spf: Spf
    signatures: tuple[Signature, ...]
    published: Published | None = None
    # pass, fail, none, permerror or temperror (RFC 9989 section 9.2).
    dmarc: str = "none"
    spf_aligned: bool = False
    dkim_aligned: bool = False
    # What could have made a pass of it.
    doubt: Doubt | None = None

    def authenticated(self) -> Iterable[str]:
        """Domains that SPF or DKIM has authenticated."""
        if self.spf.passed:
            yield self.spf.passed
        yield from (one.domain for one in self.signatures if one.result == "pass" and one.domain)


class Outcome(NamedTuple):
    """What is done, and why. The disposition is DMARC's own part of it; override says why it is less than published."""

    action: Action
    reply: str | None = None
    reason: str = ""
    disposition: Policy = "none"
    override: str | None = None


def decide(facts: Facts, site: Site) -> Outcome:
    """Local domains first, then DMARC, then SPF."""
    spared = _spared(facts, site)
    disposition, override = _disposition(facts, site, spared=spared)
    outcome = (
        _local(facts, site, spared=spared) or _by_dmarc(facts, site, disposition, spared=spared) or _by_spf(facts, site)
    )
    if outcome is None:
        outcome = Outcome("quarantine" if disposition == "quarantine" else "accept")
    return Outcome(outcome.action, outcome.reply, outcome.reason, disposition, override)


def _spared(facts: Facts, site: Site) -> bool:
    """Whether the message comes from a forwarder or mailing list that the site trusts."""
    if site.skip_networks:
        address = names.address(facts.client)
        if any(address in one for one in site.skip_networks):
            return True
    return any(names.within(domain, one) for one in site.skip_domains for domain in facts.authenticated())


def _local(facts: Facts, site: Site, *, spared: bool) -> Outcome | None:
    """Mail that uses a domain of ours without its leave."""
    if site.local_sender is None:
        return None
    if _forged(facts.sender, facts, site):
        reason = f"envelope sender of {facts.sender}, without its SPF or DKIM pass"
    elif not spared and _forged(facts.author, facts, site):
        reason = f"author of {facts.author}, without its SPF or DKIM pass"
    else:
        return None
    doubt = facts.doubt or _own_spf_in_doubt(facts, site)
    if doubt:
        return _defer(doubt)
    if site.local_sender == "discard":
        return Outcome("discard", reason=reason)
    return Outcome("reject", f"550 5.7.1 {reason}", reason)


def _own_spf_in_doubt(facts: Facts, site: Site) -> Doubt | None:
    """SPF of a domain of ours that DNS gives no answer for, whether or not it would matter to DMARC."""
    found = facts.spf.identifier
    ours = found and any(names.within(found.domain, one) for one in site.local_domains)
    return Doubt(f"SPF of {found.domain}") if found and ours and found.result == "temperror" else None


def _forged(domain: str | None, facts: Facts, site: Site) -> bool:
    """Whether a domain is ours and nothing shows that the message may use it."""
    ours = [one for one in site.local_domains if domain and names.within(domain, one)]
    return bool(ours) and not any(names.within(one, own) for one in facts.authenticated() for own in ours)


def _disposition(facts: Facts, site: Site, *, spared: bool) -> tuple[Policy, str | None]:
    """What DMARC asks for, and why that is less than published (RFC 9990, PolicyOverride)."""
    if facts.published is None or facts.dmarc != "fail":
        return "none", None
    policy = facts.published.applied
    if policy != "none" and spared:
        return "none", "trusted_forwarder"
    if policy != "none" and site.dmarc == "mark":
        return "none", "local_policy"
    return policy, "policy_test_mode" if policy != facts.published.policy else None


def _by_dmarc(facts: Facts, site: Site, disposition: Policy, *, spared: bool) -> Outcome | None:
    if disposition == "reject":
        reason = f"DMARC: {facts.author} asks to reject mail that neither SPF nor DKIM shows to be its own"
        return Outcome("reject", f"550 5.7.26 {reason}", reason)
    # "p=none" may change nothing (RFC 9989 section 5.4), and a fail would be spared here.
    harmless = spared or site.dmarc == "mark" or (facts.published is not None and facts.published.applied == "none")
    if facts.dmarc == "temperror" and not harmless:
        return _defer(facts.doubt or Doubt("DMARC"))
    return None


def _by_spf(facts: Facts, site: Site) -> Outcome | None:
    """SPF's fail, which an aligned DKIM pass outweighs; our own domains are not judged by it."""
    judged = facts.spf.judged
    if site.spf_fail != "reject" or judged is None or judged.result != "fail" or facts.dkim_aligned:
        return None
    if any(names.within(judged.domain, one) for one in site.local_domains):
        return None
    if facts.doubt:
        return _defer(facts.doubt)
    text = refusal(judged, facts.client, doubtful=facts.spf.doubtful)
    if text.startswith("DEFER"):
        return _defer(Doubt("SPF"))
    # Without the reply's code and status.
    return Outcome("reject", text, text.split(maxsplit=2)[2])


def _defer(doubt: Doubt) -> Outcome:
    reason = f"{doubt.what} cannot be checked now, {doubt.why}"
    return Outcome("defer", f"451 {doubt.status} {reason}", reason)
