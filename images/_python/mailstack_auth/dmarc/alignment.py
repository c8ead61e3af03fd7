"""The policy of an author domain, and which authenticated domains align with it, within the time that DNS may take."""

import asyncio
from collections.abc import Awaitable, Collection
from typing import Literal

import spf as pyspf

from mailstack_auth.dmarc.discovery import Published, RecordError, Tree
from mailstack_auth.dmarc.evidence import Evidence, TempFailure, passes
from mailstack_auth.dns.lookup import Lookups

# For what a verdict needs of DNS, in seconds. Where the identifiers decide, DNS is asked for what is written down
# alone.
DNS_SECONDS = 20.0
DECIDED_SECONDS = 1.0


class Dns:
    """The lookups that one message needs, until a deadline. They raise spf.TempError when DNS does not answer."""

    def __init__(self, lookups: Lookups, seconds: float = DNS_SECONDS) -> None:
        self._lookups = lookups
        self.allow(seconds)

    def allow(self, seconds: float) -> None:
        """Let what is asked from now on take so long, all together."""
        self._deadline = asyncio.get_running_loop().time() + seconds

    @property
    def _seconds(self) -> float:
        return self._deadline - asyncio.get_running_loop().time()

    async def texts(self, name: str) -> list[bytes]:
        try:
            return await self._lookups.texts(name, self._seconds)
        except pyspf.PermError:
            return []  # as many records as nobody has

    async def exists(self, name: str) -> bool:
        return await self._lookups.exists(name, self._seconds)


# The record that applies, and DMARC's result as far as it goes by that; empty where alignment decides.
Found = tuple[Published | None, str]


async def soon(found: Awaitable[Found]) -> Found:
    """What is known in a moment."""
    try:
        return await asyncio.wait_for(found, DECIDED_SECONDS)
    except TimeoutError:
        return None, "temperror"


async def policy(tree: Tree, author: str | None) -> Found:
    """What is published for an author domain."""
    if author is None:
        return None, "none"
    try:
        published = await tree.published(author)
    except RecordError:
        return None, "permerror"
    except pyspf.TempError:
        return None, "temperror"
    return published, "" if published else "none"


async def aligned(evidence: Evidence, tree: Tree, author: str) -> Evidence:
    """With what is aligned with the author domain, and DMARC's result."""
    record = evidence.published.record if evidence.published else None
    modes = {"spf": record.aspf if record else "r", "dkim": record.adkim if record else "r"}
    spf_passes, dkim_passes = set(filter(None, [evidence.spf.passed])), passes(evidence.signatures)
    by_spf, failure = await _any_aligned(tree, author, spf_passes, modes["spf"])
    by_dkim, other = await _any_aligned(tree, author, dkim_passes, modes["dkim"])
    failure, dmarc = failure or other, evidence.dmarc
    if not (by_spf or by_dkim):
        for one in evidence.failures:
            would, unknown = await _any_aligned(tree, author, {one.domain}, modes[one.by])
            failure = failure or unknown or (one if would else None)
    if dmarc == "temperror":
        # A pass of the author's own domain aligns under every record.
        decided = author in spf_passes | dkim_passes
        dmarc, failure = ("pass", None) if decided else (dmarc, TempFailure(f"the DMARC record of {author}"))
    elif not dmarc:
        dmarc = "pass" if by_spf or by_dkim else "temperror" if failure else "fail"
    return evidence._replace(dmarc=dmarc, spf_aligned=by_spf, dkim_aligned=by_dkim, failure=failure)


async def akin(evidence: Evidence, tree: Tree, author: str, hostname: str) -> Evidence:
    """With whether the author is of the host's organization, if DMARC does not pass and its policy is not "none"."""
    published = evidence.published
    if evidence.dmarc not in {"fail", "temperror"} or (published is not None and published.applied == "none"):
        return evidence
    found, failure = await _any_aligned(tree, author, {hostname}, published.record.aspf if published else "r")
    return evidence._replace(akin=None if failure else found)


async def _any_aligned(
    tree: Tree, author: str, identifiers: Collection[str], mode: Literal["r", "s"]
) -> tuple[bool, TempFailure | None]:
    """Whether one of them is aligned. Each is looked at: one whose domain DNS does not answer for hides no other."""
    if author in identifiers:
        return True, None  # without a lookup
    failure = None
    for one in identifiers:
        try:
            if await tree.aligned(author, one, mode):
                return True, None
        except pyspf.TempError:
            failure = TempFailure(f"the organizational domain of {author}", one)
    return False, failure
