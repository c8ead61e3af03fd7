"""SPF's check_host() by spf-engine and pyspf, without a thread or a process for each message (RFC 7208 section 4).

Both are written to wait for DNS. Here each evaluation runs in a greenlet of its own: where pyspf asks DNS, the greenlet
hands the question to the event loop and sleeps until the answer is there, while the loop serves everybody else.
"""

import asyncio
import contextlib
import re
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple, cast

import greenlet
import idna
import spf as pyspf
import spf_engine

from mailstack_auth.dns.lookup import Answer, Lookups
from mailstack_auth.runtime.cache import Cache

# RFC 7208 section 4.6.4: at least 20 seconds for an evaluation, two terms with void look-ups. pyspf: ten look-ups.
MAX_SECONDS = 20.0
MAX_VOID_LOOKUPS = 2
# How much longer HELO is looked at when MAIL FROM has a result, which is the one that counts: names in HELO whose DNS
# is broken are common, and the message would wait for nothing.
HELO_SECONDS = 1.0
# For the addresses of one of the client's names. One that is silent is left out (RFC 7208 section 5.5), and leaves time
# for the others.
NAME_SECONDS = 4.0
# For the records of relays' domains, after that. The site chose them, mostly they are known; Postfix and "stop" wait.
RELAY_SECONDS = 4.0
# How many results are remembered: 2 MB.
MAX_RESULTS = 2048
# RFC 1035 section 2.3.4, without the final dot.
MAX_NAME = 253

Identity = Literal["helo", "mailfrom"]
RESULTS = ("pass", "fail", "softfail", "neutral", "none", "temperror", "permerror")

# One identity at a time, each result reported and none acted upon. spf-engine's own actions get in each other's way: a
# HELO fail beats a MAIL FROM pass, and 'False' for HELO_reject or Mail_From_reject switches off TempError_Defer and
# PermError_reject as well. Its header copies what a client sent. Actions and header are in policy.py.
_ENGINE = {
    "debugLevel": -1,
    "skip_addresses": "127.0.0.0/8",  # it fails without one
    "Void_Limit": MAX_VOID_LOOKUPS,
    "Lookup_Time": MAX_SECONDS,
    "Header_Type": "SPF",
}
_SCOPES = {
    "helo": _ENGINE | {"HELO_reject": "False"},
    "mailfrom": _ENGINE | {"HELO_reject": "No_Check", "Mail_From_reject": "False"},
}


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


class OutOfTimeError(pyspf.TempError):  # type: ignore[misc]
    """The time limit for an evaluation is over."""


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

    async def _check(self, identity: Identity, client: str, helo: str, sender: str, seconds: float) -> Result:
        domain = sender.rpartition("@")[2] if identity == "mailfrom" else helo
        known = self._known(identity, client, domain)
        if known is not None:
            return known
        deadline = asyncio.get_running_loop().time() + seconds
        worker = _Worker(_engine)
        worker.lookups, worker.asked, worker.personal = self._lookups, [], False
        try:
            wish = worker.switch(identity, client, helo, sender)
            while not worker.dead:
                try:
                    async with asyncio.timeout_at(deadline):
                        answer = await self._fulfil(wish)
                except TimeoutError:
                    wish = worker.throw(OutOfTimeError(f"DNS gave no answer within {seconds:g} s"))
                except (pyspf.TempError, pyspf.PermError) as error:
                    wish = worker.throw(error)
                else:
                    wish = worker.switch(answer)
            result, reason = wish
        finally:
            # Cancelled while it waited for DNS. pyspf has a bare "except", so once may not do; and what pyspf raises in
            # its turn must not hide why this one ends.
            while not worker.dead:
                with contextlib.suppress(Exception):
                    worker.throw()
        found = Result(identity, domain, result, reason)
        if result != "temperror" and worker.asked and not worker.personal:
            lifetime = min(self._lookups.seconds_left(*question) for question in worker.asked)
            self._results.put((identity, client, domain.lower()), found, lifetime)
        return found

    def _known(self, identity: Identity, client: str, domain: str) -> Result | None:
        if "." not in domain or domain.startswith("[") or len(domain) > MAX_NAME:
            # An address literal, and what is not a multi-label name (RFC 7208 section 4.3).
            return Result(identity, domain, "none", "no domain name")
        return self._results.get((identity, client, domain.lower()))

    async def _fulfil(self, wish: "_Wish") -> list[Answer]:
        if wish is None:
            await asyncio.sleep(0)
            return []
        return await self._lookups.look_up(*wish)


def _engine(identity: Identity, client: str, helo: str, sender: str) -> tuple[str, str]:
    """Run in a greenlet: the result and the reason."""
    data = {
        "client_address": client,
        "helo_name": helo[-MAX_NAME:],
        "sender": sender,
        "recipient": "",
        "instance": "one",
    }
    table: dict[str, list[Any]] = {}
    said = spf_engine._spfcheck(data, table, _SCOPES[identity], peruser=False, peruserconfigData=None)  # noqa: SLF001
    if "one" not in table:
        # spf-engine catches whatever pyspf raises and says "dunno", which would let the message in unjudged. pyspf
        # raises where it cannot make sense of a record.
        return "permerror", f"the record cannot be evaluated ({said[1]!a:.100})"
    result, reason, _ = table["one"][:3]
    return str(result).lower(), str(reason)


# What a worker hands to the loop: a question for DNS, or None if others may have their turn.
_Wish = tuple[str, str, float] | None


class _Worker(greenlet.greenlet):  # type: ignore[misc]
    """An evaluation in progress."""

    lookups: Lookups
    # The names and types that it has asked for.
    asked: list[tuple[str, str]]
    # A record has a macro (RFC 7208 section 7): the result may be another one for another local part, or HELO.
    personal: bool
    # The client's names that lead back to it; None while nobody has asked for them.
    names: list[str] | None = None


def _ask(name: str, kind: str, strict: object = True, timeout: float = MAX_SECONDS) -> list[Answer]:  # noqa: ARG001, FBT002
    """In place of spf.DNSLookup, whose signature this is: the event loop asks DNS and switches back."""
    worker = greenlet.getcurrent()
    worker.asked.append((name, kind))
    answers: list[Answer] | None = worker.lookups.known(name, kind)
    if answers is None:
        answers = worker.parent.switch((name, kind, timeout))
    if kind == "TXT":
        worker.personal |= any(b"%" in text for _, (text,) in cast("list[tuple[object, tuple[bytes]]]", answers))
    return answers


def _validated_names(query: Any) -> list[str]:  # noqa: ANN401
    """In place of spf.query.validated_ptrs: the client's names that lead back to it, looked up once in an evaluation.

    Whoever owns the client's address writes them. What is wrong with one of them is no match (RFC 7208 section 5.5) and
    costs the sender's domain nothing: upstream makes a temperror of an error, and counts void look-ups.
    """
    worker: _Worker = greenlet.getcurrent()
    if worker.names is None:
        names = _of_client(f"{pyspf.reverse_dots(query.i)}.{query.v}.arpa", "PTR", MAX_SECONDS)[: pyspf.MAX_PTR]
        worker.names = [
            name for name in names if query.cidrmatch(_of_client(name, query.A, NAME_SECONDS), query.cidrmax)
        ]
    return worker.names


def _of_client(name: str, kind: str, seconds: float) -> list[Any]:
    """The values at a name that is the client's own; nothing for an error of DNS or an absurd answer."""
    try:
        return [value for _, value in _ask(name.lower(), kind, timeout=seconds)]
    except OutOfTimeError:
        raise
    except (pyspf.TempError, pyspf.PermError):
        return []


def _mx_addresses(query: Any, domain: str) -> list[str]:  # noqa: ANN401
    """In place of spf.query.dns_mx: void at most once, since the limit is one of terms (RFC 7208 section 4.6.4)."""
    hosts = [host for _, host in query.dns(domain, "MX")]
    if len(hosts) > pyspf.MAX_MX:
        raise pyspf.PermError(f"more than {pyspf.MAX_MX} MX records")
    # A host without a name is "no mail here" (RFC 7505).
    found = [query.dns(host, query.A, ignore_void=True) for host in hosts if host]
    query.void_lookups += not all(found)
    if query.void_lookups > MAX_VOID_LOOKUPS:
        raise pyspf.PermError(f"more than {MAX_VOID_LOOKUPS} terms with void look-ups")
    return [address for addresses in found for address in addresses]


def _matches(query: Any, addresses: Iterable[str], prefix: int) -> bool:  # noqa: ANN401
    """In place of spf.query.cidrmatch, which takes 20 times as long: ten "mx" may come to ten thousand addresses."""
    family, bits = (socket.AF_INET, 32) if query.A == "A" else (socket.AF_INET6, 128)
    wanted = int(query.ipaddr) >> (bits - prefix)
    return any(int.from_bytes(socket.inet_pton(family, one), "big") >> (bits - prefix) == wanted for one in addresses)


def _evaluate_record(query: Any, record: str | None, recursion: int) -> Any:  # noqa: ANN401
    """In place of spf.query.check0: between two records the loop serves others, even if DNS is all known."""
    if query.lookups:
        greenlet.getcurrent().parent.switch(None)
    return _check0(query, record, recursion)


def _no_explanation(query: Any, name: str) -> None:  # noqa: ANN401
    """In place of spf.query.get_explanation: nobody is shown it (RFC 7208 section 6.2), so nobody asks for it."""


# In place of spf.RE_TOPLAB: says the same of the end of a domain-spec (RFC 7208 section 7.1, toplabel), in linear time.
_TOP_LABEL = re.compile(r"\.(?!\d+\.?$)[0-9a-z](?:[0-9a-z-]*[0-9a-z])?\.?$|" + pyspf.PAT_CHAR, re.IGNORECASE)

pyspf.DNSLookup = _ask
pyspf.query.validated_ptrs = _validated_names
pyspf.query.dns_mx = _mx_addresses
pyspf.query.cidrmatch = _matches
pyspf.query.get_explanation = _no_explanation
pyspf.RE_TOPLAB = _TOP_LABEL
_check0, pyspf.query.check0 = pyspf.query.check0, _evaluate_record
# Whether the client is in skip_addresses, which is parsed anew for each check; they are the policy's business.
spf_engine._cidrmatch = lambda _client, _network: False  # noqa: SLF001


def _sender(sender: str) -> str:
    """An envelope sender as pyspf reads it: the last "@" separates.

    Postfix hands on a local part without its quotes, and pyspf takes the first "@". Octets that are no UTF-8 stop it.
    """
    local, at, domain = sender.rpartition("@")
    local = local.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    # No name that DNS is asked for is longer, whose left side goes first (RFC 7208 section 7.3).
    return f"{local.replace('@', '=40')[-MAX_NAME:]}{at}{_name(domain)}"


def _name(name: str) -> str:
    """A domain as DNS has it: A-labels (RFC 7208 section 4.3), no final dot, behind which pyspf finds no record."""
    try:
        if not name.isascii() and len(name) <= MAX_NAME:
            name = idna.encode(name, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        pass  # no name then
    return name.encode("ascii", "replace").decode("ascii").removesuffix(".")
