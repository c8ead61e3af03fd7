"""SPF's check_host() by spf-engine and pyspf, without a thread or a process for each message (RFC 7208 section 4).

Both are written to wait for DNS. Here each evaluation runs in a greenlet of its own: where pyspf asks DNS, the greenlet
hands the question to the event loop and sleeps until the answer is there, while the loop serves everybody else.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Literal

import greenlet
import idna
import spf as pyspf
import spf_engine

from mailstack_auth.lookup import Answer, Lookups

# RFC 7208 section 4.6.4: at least 20 seconds for an evaluation, and two void look-ups. pyspf limits look-ups to ten.
MAX_SECONDS = 20.0
MAX_VOID_LOOKUPS = 2
# How much longer HELO is looked at when MAIL FROM has a result, which is the one that counts: names in HELO whose DNS
# is broken are common, and the message would wait for nothing.
HELO_SECONDS = 1.0

Identity = Literal["helo", "mailfrom"]
RESULTS = ("pass", "fail", "softfail", "neutral", "none", "temperror", "permerror")

# One identity at a time, each result reported and none acted upon. spf-engine's own actions get in each other's way: a
# HELO fail beats a MAIL FROM pass, and 'False' for HELO_reject or Mail_From_reject switches off TempError_Defer and
# PermError_reject as well. Its header copies what a client sent. Actions and header are in policy.py.
_ENGINE = {
    "debugLevel": -1,
    "skip_addresses": "127.0.0.0/8",  # it fails without one; loopback clients never come this far
    "Void_Limit": MAX_VOID_LOOKUPS,
    "Lookup_Time": MAX_SECONDS,
    "Header_Type": "SPF",
}
_SCOPES = {
    "helo": _ENGINE | {"HELO_reject": "False"},
    "mailfrom": _ENGINE | {"HELO_reject": "No_Check", "Mail_From_reject": "False"},
}


@dataclass(frozen=True)
class Result:
    """What SPF says of one identity. The reason is text that may come from the domain's own record."""

    identity: Identity
    domain: str
    result: str
    reason: str


@dataclass(frozen=True)
class Evaluation:
    """Both identities of a message; mailfrom is None where there is no envelope sender."""

    helo: Result
    mailfrom: Result | None

    @property
    def judged(self) -> Result:
        """The one that counts: MAIL FROM; HELO for bounces, and where the sender's domain publishes nothing."""
        if self.mailfrom is None or (self.mailfrom.result == "none" and self.helo.result != "none"):
            return self.helo
        return self.mailfrom


class OutOfTimeError(pyspf.TempError):  # type: ignore[misc]
    """The time limit for an evaluation is over."""


class Evaluator:
    """Evaluates messages; any number at once, in one event loop."""

    def __init__(self, lookups: Lookups, seconds: float = MAX_SECONDS) -> None:
        self._lookups = lookups
        self._seconds = seconds

    async def evaluate(self, client: str, helo: str, sender: str) -> Evaluation:
        """Judge HELO and MAIL FROM side by side, both within the time limit."""
        helo, sender = _name(helo), _sender(sender)
        if not sender:
            return Evaluation(await self._check("helo", client, helo, ""), None)
        by_helo = asyncio.create_task(self._check("helo", client, helo, ""))
        try:
            mailfrom = await self._check("mailfrom", client, helo, sender)
            await asyncio.wait([by_helo], timeout=None if mailfrom.result == "none" else HELO_SECONDS)
            if by_helo.done():
                return Evaluation(by_helo.result(), mailfrom)
            return Evaluation(Result("helo", helo, "temperror", "MAIL FROM was known before"), mailfrom)
        finally:
            by_helo.cancel()

    async def authorises(self, domain: str, client: str) -> bool:
        """Whether a domain's own SPF record lets the client send. Raises spf.TempError when DNS gives no answer."""
        result = await self._check("mailfrom", client, domain, f"postmaster@{domain}")
        if result.result == "temperror":
            raise pyspf.TempError(f"{domain}: {result.reason}")
        return result.result == "pass"

    async def _check(self, identity: Identity, client: str, helo: str, sender: str) -> Result:
        domain = sender.rpartition("@")[2] if identity == "mailfrom" else helo
        if "." not in domain or domain.startswith("["):
            # An address literal, and what is not a multi-label name (RFC 7208 section 4.3).
            return Result(identity, domain, "none", "no domain name")
        deadline = asyncio.get_running_loop().time() + self._seconds
        worker = _Worker(_engine)
        worker.lookups = self._lookups
        try:
            question = worker.switch(identity, client, helo, sender)
            while not worker.dead:
                try:
                    answer = await self._answer(question, deadline)
                except (pyspf.TempError, pyspf.PermError) as error:
                    question = worker.throw(error)
                else:
                    question = worker.switch(answer)
            result, reason = question
        finally:
            # Cancelled while it waited for DNS. pyspf has a bare "except", so once may not do.
            while not worker.dead:
                worker.throw()
        return Result(identity, domain, result, reason)

    async def _answer(self, question: tuple[str, str, float], deadline: float) -> list[Answer]:
        try:
            async with asyncio.timeout_at(deadline):
                return await self._lookups.look_up(*question)
        except TimeoutError:
            raise OutOfTimeError(f"DNS gave no answer within {self._seconds:g} s") from None


def _engine(identity: Identity, client: str, helo: str, sender: str) -> tuple[str, str]:
    """Run in a greenlet: the result and the reason."""
    data = {"client_address": client, "helo_name": helo, "sender": sender, "recipient": "", "instance": "one"}
    table: dict[str, list[Any]] = {}
    said = spf_engine._spfcheck(data, table, _SCOPES[identity], peruser=False, peruserconfigData=None)  # noqa: SLF001
    if "one" not in table:
        # spf-engine catches whatever pyspf raises and says "dunno", which would let the message in unjudged. pyspf
        # raises where it cannot make sense of a record.
        return "permerror", f"the record cannot be evaluated ({said[1]!a:.100})"
    result, reason, _ = table["one"][:3]
    return str(result).lower(), str(reason)


class _Worker(greenlet.greenlet):  # type: ignore[misc]
    """An evaluation in progress."""

    lookups: Lookups


def _ask(name: str, kind: str, strict: object = True, timeout: float = MAX_SECONDS) -> list[Answer]:  # noqa: ARG001, FBT002
    """In place of spf.DNSLookup, whose signature this is: the event loop asks DNS and switches back."""
    worker = greenlet.getcurrent()
    known = worker.lookups.known(name, kind)
    return known if known is not None else worker.parent.switch((name, kind, timeout))  # type: ignore[no-any-return]


def _validated_names(query: Any) -> list[str]:  # noqa: ANN401
    """In place of spf.query.validated_ptrs: the client's names that lead back to it.

    An error of DNS is no match here, and no reason to give up (RFC 7208 section 5.5), since the client's own names are
    not the sender's fault. Upstream makes a temperror of it.
    """
    try:
        names = query.dns_ptr(query.i)[: pyspf.MAX_PTR]
    except OutOfTimeError:
        raise
    except pyspf.TempError:
        return []
    found = []
    for name in names:
        try:
            addresses = query.dns_a(name, query.A)
        except OutOfTimeError:
            raise
        except pyspf.TempError:
            continue
        if query.cidrmatch(addresses, query.cidrmax):
            found.append(name)
    return found


pyspf.DNSLookup = _ask
pyspf.query.validated_ptrs = _validated_names


def _sender(sender: str) -> str:
    """An envelope sender as pyspf reads it: the last "@" separates.

    Postfix hands on a local part without its quotes, and pyspf takes the first "@". Octets that are no UTF-8 stop it.
    """
    local, at, domain = sender.rpartition("@")
    local = local.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return f"{local.replace('@', '=40')}{at}{_name(domain)}"


def _name(name: str) -> str:
    """A domain as DNS has it: A-labels (RFC 7208 section 4.3), no final dot, behind which pyspf finds no record."""
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            name = name.encode("ascii", "replace").decode("ascii")
    return name.rstrip(".")
