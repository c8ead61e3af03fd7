"""Collects what is known of a message: what SPF found, signatures verified where it matters, DMARC's records."""

import asyncio
from collections.abc import Awaitable, Collection, Iterable

import spf as pyspf

from mailstack_auth import names
from mailstack_auth.dkim import signatures
from mailstack_auth.dkim.signatures import Signature
from mailstack_auth.dkim.verification import Body, Finding, Verifier, fault
from mailstack_auth.dmarc import alignment, recipients
from mailstack_auth.dmarc.alignment import DECIDED_SECONDS, DNS_SECONDS, Dns
from mailstack_auth.dmarc.discovery import Tree
from mailstack_auth.dmarc.evidence import Evidence, Reading, TempFailure, passes
from mailstack_auth.dns.lookup import Lookups
from mailstack_auth.milter.message import Message
from mailstack_auth.runtime import supervisor
from mailstack_auth.site import Site
from mailstack_auth.spf.judgement import Judgement

# Enough for every honest message; each costs a lookup and a verification.
MAX_LOOKS = 20


class Collector:
    """Looks up and verifies, for any number of messages at once."""

    def __init__(self, site: Site, lookups: Lookups) -> None:
        self._site = site
        self._lookups = lookups

    def body(self, message: Message, reading: Reading) -> Body | None:
        """The hashes of a body, where a signature may have to be verified here."""
        # Which ones will be verified depends on SPF too; the ways to hash a body are two.
        wanted = self._wanted(reading, passes(reading.signatures))
        return _body(message, [one for one in reading.signatures if one.open]) if wanted else None

    async def evidence(self, message: Message, reading: Reading, spf: Judgement) -> Evidence:
        """What is known, as far as DNS answers."""
        passed = {*passes(reading.signatures), *filter(None, [spf.passed])}
        wanted = self._wanted(reading, passed)
        found, author, failures = reading.signatures, reading.author, list[TempFailure]()
        seconds = DECIDED_SECONDS if author is None or author in passed else DNS_SECONDS
        dns = Dns(self._lookups, seconds)
        tree = Tree(dns)
        policy: Awaitable[alignment.Found] = alignment.policy(tree, author)
        if wanted:
            policy = asyncio.ensure_future(policy)
            found, failures = await self._verified(message, reading, passed)
            if author in passes(found):
                seconds = DECIDED_SECONDS
                policy = alignment.soon(policy)
        published, dmarc = await policy
        identifier = spf.identifier
        if identifier and identifier.result == "temperror":
            failures.append(TempFailure(f"the SPF record of {identifier.domain}", identifier.domain, by="spf"))
        evidence = Evidence(
            message.client,
            reading.sender,
            author,
            spf,
            found,
            published,
            dmarc,
            failures=tuple(failures),
            forwarded=any(recipients.forwarded(one, self._site) for one in message.recipients),
            returned=recipients.by_srs(message.sender, self._site),
        )
        if author is None:
            return evidence
        dns.allow(seconds)
        evidence = await alignment.aligned(evidence, tree, author)
        return await alignment.akin(evidence, tree, author, self._site.hostname) if evidence.forwarded else evidence

    def _wanted(self, reading: Reading, passed: Collection[str]) -> list[Signature]:
        """The signatures to verify here: those that could matter beside the domains that have a pass."""
        found = [one for one in reading.signatures if one.open]
        if not found or reading.ambiguous:
            return []
        author = reading.author or ""
        special = [*self._site.skip_domains, *self._site.ours(author), *self._site.ours(reading.sender)]
        special = [one for one in special if not any(names.within(other, one) for other in passed)]

        def matters(domain: str) -> bool:
            # Without any pass each one would tell who handed the message on. No organization has two top-level domains.
            aligned = author not in passed and _top(author) == _top(domain)
            return not passed or aligned or any(names.within(domain, one) for one in special)

        def urgency(one: Signature) -> tuple[bool, tuple[bool, int], int]:
            named = any(names.within(one.domain or "", special_one) for special_one in special)
            return not named, names.distance(one.domain or "", author), -one.at

        # Of too many those of domains that the site names, what is nearest to the author, and what was there first.
        return sorted((one for one in found if matters(one.domain or "")), key=urgency)[:MAX_LOOKS]

    async def _verified(
        self, message: Message, reading: Reading, passed: Collection[str]
    ) -> tuple[tuple[Signature, ...], list[TempFailure]]:
        """The signatures, those that are wanted verified here; and whose keys could not be looked up.

        What is no longer wanted beside a pass is not waited for.
        """
        wanted = self._wanted(reading, passed)
        dns, found, failures = Dns(self._lookups), list(reading.signatures), list[TempFailure]()
        body = message.body if isinstance(message.body, Body) else _body(message, wanted)
        verifier, fields = Verifier(message.fields, body), signatures.fields(message.fields)
        asking = {asyncio.ensure_future(_key(dns, one)): one for one in wanted}
        while asking:
            answered, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
            for task in answered:
                # With many messages at once each verification lets others have their turn, which all may come in one.
                await asyncio.sleep(0)
                supervisor.beat()
                one, keys = asking.pop(task), task.result()
                hopeless = fault(fields[one.at].value) if keys is None else None
                if hopeless:
                    found[one.at] = one.found(hopeless)
                elif keys is None:
                    # Whatever OpenDKIM says: it takes SERVFAIL for a key that does not exist.
                    found[one.at] = one.found(Finding("temperror"))
                    failures.append(TempFailure(f"the DKIM key {signatures.key_name(one)}", one.domain or ""))
                elif len(keys) == 1:
                    found[one.at] = one.found(verifier.verify(fields[one.at], keys[0]))
                elif one.result in {"neutral", "temperror"}:
                    found[one.at] = one.found(Finding("permerror", "more than one key" if keys else "no key"))
            still = self._wanted(reading, {*passed, *passes(found)})
            for task in [task for task, one in asking.items() if one not in still]:
                task.cancel()
                del asking[task]
        return tuple(found), failures


def _top(domain: str) -> str:
    return domain.rpartition(".")[2]


def _body(message: Message, wanted: Iterable[Signature]) -> Body:
    fields = signatures.fields(message.fields)
    return Body(fields[one.at].value for one in wanted)


async def _key(dns: Dns, signature: Signature) -> list[bytes] | None:
    """The key records; None when DNS does not answer."""
    try:
        return await dns.texts(signatures.key_name(signature))
    except pyspf.TempError:
        return None
