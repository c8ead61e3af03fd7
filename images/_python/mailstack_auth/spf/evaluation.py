"""SPF's check_host() for many messages at once (RFC 7208 section 4)."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Literal, NamedTuple

import greenlet
import idna
import spf as pyspf

from mailstack_auth.dns.lookup import Answer, Lookups
from mailstack_auth.names import MAX_DOMAIN
from mailstack_auth.runtime import supervisor
from mailstack_auth.runtime.cache import Cache
from mailstack_auth.spf.query import MAX_SECONDS, OutOfTimeError, Query, Wish

# How much longer HELO is looked at when MAIL FROM has a result, which is the one that counts: names in HELO whose DNS
# is broken are common, and the message would wait for nothing.
HELO_SECONDS = 1.0
# For the records of forwarders' domains, after that. The site chose them and mostly they are known; Postfix waits.
RELAY_SECONDS = 4.0
# How many results are remembered: 2 MB.
MAX_RESULTS = 2048

Identity = Literal["helo", "mailfrom"]
RESULTS = ("pass", "fail", "softfail", "neutral", "none", "temperror", "permerror")


class Result(NamedTuple):
    """What SPF says of one identity. The reason is text that may come from the domain's own record."""

    identity: Identity
    domain: str
    result: str
    reason: str


class Evaluation(NamedTuple):
    """Both identities of a message.

    mailfrom is None where there is no envelope sender. helo is None where it was given up, since MAIL FROM had a result
    that counts: nothing is known of it then, which is no temperror of anybody's.
    """

    helo: Result | None
    mailfrom: Result | None

    @property
    def judged(self) -> Result:
        """The one that counts: MAIL FROM; HELO for bounces, and where the sender's domain publishes nothing."""
        if self.helo and (not self.mailfrom or (self.mailfrom.result == "none" and self.helo.result != "none")):
            return self.helo
        assert self.mailfrom is not None  # noqa: S101
        return self.mailfrom


class Counted(NamedTuple):
    """SPF's result for a domain and a client, and what it cost.

    RFC 7208 section 4.6.4 allows ten terms that look something up, and two that find nothing.
    """

    result: str
    reason: str
    lookups: int
    void_lookups: int


class Evaluator:
    """Evaluates messages; any number at once, in one event loop."""

    def __init__(
        self,
        lookups: Lookups,
        seconds: float = MAX_SECONDS,
        relay_seconds: float = RELAY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lookups = lookups
        # By identity, client and domain, as long as all the answers that led to them are valid.
        self._results: Cache[tuple[Identity, str, str], Result] = Cache(MAX_RESULTS, clock)
        self._seconds = seconds
        self._relay_seconds = min(relay_seconds, seconds)

    def known(self, client: str, helo: str, sender: str) -> Evaluation | None:
        """What evaluate() would say without asking anybody; None if it would have to ask."""
        helo, sender = _name(helo), _sender(sender)
        by_helo = self._known("helo", client, helo)
        if by_helo is None or not sender:
            return by_helo and Evaluation(by_helo, None)
        mailfrom = self._known("mailfrom", client, sender.rpartition("@")[2])
        return mailfrom and Evaluation(by_helo, mailfrom)

    async def evaluate(self, client: str, helo: str, sender: str) -> Evaluation:
        """Judge HELO and MAIL FROM side by side, both within the time limit."""
        helo, sender = _name(helo), _sender(sender)
        if not sender:
            return Evaluation(await self._check("helo", client, helo, "", self._seconds), None)
        by_helo = asyncio.create_task(self._check("helo", client, helo, "", self._seconds))
        try:
            mailfrom = await self._check("mailfrom", client, helo, sender, self._seconds)
            if not by_helo.done():
                await asyncio.wait([by_helo], timeout=None if mailfrom.result == "none" else HELO_SECONDS)
            return Evaluation(by_helo.result() if by_helo.done() else None, mailfrom)
        finally:
            by_helo.cancel()

    async def authorises(self, domain: str, client: str) -> bool:
        """Whether a domain's own SPF record lets the client send. Raises spf.TempError when DNS gives no answer."""
        result = await self._check("mailfrom", client, domain, f"postmaster@{domain}", self._relay_seconds)
        if result.result == "temperror":
            raise pyspf.TempError(f"{domain}: {result.reason}")
        return result.result == "pass"

    async def counted(self, domain: str, client: str) -> Counted:
        """What a domain's record says of a client, and what that costs; nothing of it is kept."""
        query = Query(self._lookups, client, domain, f"postmaster@{domain}")
        result, reason = await self._run(query, self._seconds)
        return Counted(result, reason, query.lookups, query.void_lookups)

    async def _check(self, identity: Identity, client: str, helo: str, sender: str, seconds: float) -> Result:
        domain = sender.rpartition("@")[2] if identity == "mailfrom" else helo
        known = self._known(identity, client, domain)
        if known is not None:
            return known
        query = Query(self._lookups, client, helo[-MAX_DOMAIN:] or domain, sender or f"postmaster@{helo[-MAX_DOMAIN:]}")
        result, reason = await self._run(query, seconds)
        found = Result(identity, domain, result, reason)
        if result != "temperror" and query.asked and not query.personal:
            lifetime = min(self._lookups.seconds_left(*question) for question in query.asked)
            self._results.put((identity, client, domain.lower()), found, lifetime)
        return found

    async def _run(self, query: Query, seconds: float) -> tuple[str, str]:
        """The result and the reason of a query, within so many seconds."""
        deadline = asyncio.get_running_loop().time() + seconds
        worker = greenlet.greenlet(query.evaluate)
        try:
            wish = worker.switch()
            while not worker.dead:
                try:
                    async with asyncio.timeout_at(deadline):
                        answer = await self._fulfil(wish)
                except TimeoutError:
                    wish = worker.throw(OutOfTimeError(f"DNS did not answer within {seconds:g} s"))
                except (pyspf.TempError, pyspf.PermError) as error:
                    wish = worker.throw(error)
                else:
                    wish = worker.switch(answer)
        finally:
            # Cancelled while it waited for DNS. pyspf has a bare "except", so once may not do; and what pyspf raises in
            # its turn must not hide why this one ends.
            while not worker.dead:
                with contextlib.suppress(Exception):
                    worker.throw()
        result, reason = wish
        return result, reason

    def _known(self, identity: Identity, client: str, domain: str) -> Result | None:
        if "." not in domain or domain.startswith("[") or len(domain) > MAX_DOMAIN:
            # An address literal, and what is not a multi-label name (RFC 7208 section 4.3).
            return Result(identity, domain, "none", "no domain name")
        return self._results.get((identity, client, domain.lower()))

    async def _fulfil(self, wish: Wish) -> list[Answer]:
        if wish is None:
            await asyncio.sleep(0)
            supervisor.beat()
            return []
        return await self._lookups.look_up(*wish)


def _sender(sender: str) -> str:
    """An envelope sender as pyspf reads it: the last "@" separates.

    Postfix hands on a local part without its quotes, and pyspf takes the first "@". Octets that are no UTF-8 stop it.
    """
    local, at, domain = sender.rpartition("@")
    local = local.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    # No name that DNS is asked for is longer, whose left side goes first (RFC 7208 section 7.3).
    return f"{local.replace('@', '=40')[-MAX_DOMAIN:]}{at}{_name(domain)}"


def _name(name: str) -> str:
    """A domain as DNS has it: A-labels (RFC 7208 section 4.3), no final dot, behind which pyspf finds no record."""
    try:
        if not name.isascii() and len(name) <= MAX_DOMAIN:
            name = idna.encode(name, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        pass  # no name then
    return name.encode("ascii", "replace").decode("ascii").removesuffix(".")
