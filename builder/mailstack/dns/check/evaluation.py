"""SPF evaluated by the code that the containers use, for each address from which a site sends."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import dns.asyncresolver

from mailstack.dns.ask import Look
from mailstack.dns.check.wanted import Evidence, Wanted
from mailstack.dns.mistakes import spf
from mailstack.dns.mistakes.mistake import Mistake
from mailstack.values.spf import MAX_LOOKUPS, continued
from mailstack_auth.dns.lookup import Answer, Lookups, check_length
from mailstack_auth.spf.evaluation import Counted, Evaluator
from mailstack_auth.spf.query import MAX_VOID_LOOKUPS

# Nobody sends from it (RFC 5737), so a record is evaluated to its end.
_NOBODY = "203.0.113.254"


class _Judged(Lookups):
    """A resolver's answers, but for the record that is judged: servers that disagree have several."""

    def __init__(self, look: Look, domain: str, record: str) -> None:
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = [look.resolver]
        resolver.port = look.port
        super().__init__(resolver)
        self._judged = domain, "TXT"
        self._record = record.encode("utf-8", "surrogateescape")

    async def look_up(self, name: str, kind: str, seconds: float) -> list[Answer]:
        if (name, kind) != self._judged:
            return await super().look_up(name, kind, seconds)
        check_length(self._record)
        return [(self._judged, (self._record,))]


async def evaluate(look: Look, domain: str, record: str, addresses: Sequence[str]) -> tuple[list[Counted], Counted]:
    """The results of each address, and of one that no record names, which costs the most look-ups."""
    evaluator = Evaluator(_Judged(look, domain, record), seconds=look.left)
    *found, nobody = await asyncio.gather(*(evaluator.counted(domain, one) for one in (*addresses, _NOBODY)))
    return found, nobody


async def evaluated(
    look: Look, wanted: Wanted, evidence: Evidence, record: str, wrong: Sequence[Mistake]
) -> tuple[list[Mistake], str]:
    """The mistakes of a domain's only SPF record after its evaluation; a few words on that, if it went well.

    A record that reaches the site's addresses in another way than the wanted one is right; one that looks right by its
    text may reach them nowhere. wrong are the mistakes in its text.
    """
    if any(one.level == "fault" and one.code != "not-allowed" for one in wrong):
        return list(wrong), ""
    addresses = () if wanted.domain in evidence.relayed else tuple(map(str, evidence.addresses))
    results, nobody = await evaluate(look, wanted.domain, record, addresses)
    passes = bool(results) and all(one.result == "pass" for one in results)
    left = [one for one in wrong if not (passes and one.code == "not-allowed")]
    left += [one async for one in _of_the_whole(look, wanted, evidence, record, nobody)]
    if any(one.level == "fault" for one in left):
        return left, ""
    # A term before may refuse these addresses.
    mended = spf.merged([wanted.text, record], wanted.text, wanted.domain, evidence.addresses)
    left += [one for pair in zip(addresses, results, strict=True) for one in _of_address(*pair, mended)]
    passed = f" and passes for {', '.join(addresses)}" if passes else ""
    counts = f"{nobody.lookups} of {MAX_LOOKUPS} look-ups, {nobody.void_lookups} of {MAX_VOID_LOOKUPS} void"
    return left, f"{passed} ({counts})"


def _of_address(address: str, one: Counted, mended: str) -> list[Mistake]:
    what = f"SPF has the result {one.result} for {address}, from which this site sends: {one.reason}"
    if one.result == "temperror":
        return [Mistake("warning", "spf-temperror", what, None)]
    return [] if one.result == "pass" else [Mistake("fault", "spf-fails", what, mended)]


async def _of_the_whole(
    look: Look, wanted: Wanted, evidence: Evidence, record: str, nobody: Counted
) -> AsyncIterator[Mistake]:
    """What is wrong with the record together with all that it includes (RFC 7208 section 4.6.4)."""
    if nobody.result != "permerror":
        return
    lost = [term for domain, term in continued(record).items() if "%" not in domain and await _is_empty(look, domain)]
    if lost:
        left = " ".join(word for word in record.split() if word.lower() not in lost)
        mended = spf.merged([left], wanted.text, wanted.domain, evidence.addresses)
        what = f"{', '.join(lost)} leads to a domain without an SPF record: the result is permerror (section 5.2)"
        yield Mistake("fault", "include-nothing", what, mended)
    elif nobody.lookups > MAX_LOOKUPS:
        what = f"with all that it includes, it needs more than {MAX_LOOKUPS} look-ups: permerror (section 4.6.4)"
        yield Mistake("fault", "look-ups-included", what, wanted.text)
    elif nobody.void_lookups > MAX_VOID_LOOKUPS:
        what = f"more than {MAX_VOID_LOOKUPS} of its look-ups find nothing: permerror (section 4.6.4)"
        yield Mistake("fault", "void-look-ups", what, wanted.text)
    else:
        yield Mistake("fault", "permerror", f"SPF has the result permerror: {nobody.reason}", wanted.text)


async def _is_empty(look: Look, domain: str) -> bool:
    """Whether a domain surely has no SPF record."""
    answer = await look.resolve(domain, "TXT")
    return not answer.failure and not any(map(spf.is_record, answer.values))
