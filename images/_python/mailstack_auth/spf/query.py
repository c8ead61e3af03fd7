"""SPF's check_host() by pyspf (RFC 7208 section 4), which is written to wait for DNS.

Here each evaluation runs in a greenlet of its own: where pyspf asks DNS, the greenlet hands the question to the event
loop and sleeps until the answer is there, while the loop serves everybody else.
"""

import re
import socket
from collections.abc import Iterable
from typing import Any

import greenlet
import spf as pyspf

from mailstack_auth.dns.lookup import Lookups

# RFC 7208 section 4.6.4: at least 20 seconds for an evaluation, two terms with void look-ups. pyspf: ten look-ups.
MAX_SECONDS = 20.0
MAX_VOID_LOOKUPS = 2
# For the addresses of one of the client's names. One that is silent is left out (RFC 7208 section 5.5), and leaves time
# for the others.
NAME_SECONDS = 4.0

# What an evaluation hands to the loop: a question for DNS, or None if others may have their turn.
Wish = tuple[str, str, float] | None

# In place of spf.RE_TOPLAB: says the same of the end of a domain-spec (RFC 7208 section 7.1, toplabel), in linear time.
_TOP_LABEL = re.compile(r"\.(?!\d+\.?$)[0-9a-z](?:[0-9a-z-]*[0-9a-z])?\.?$|" + pyspf.PAT_CHAR, re.IGNORECASE)


class OutOfTimeError(pyspf.TempError):  # type: ignore[misc]
    """The time limit for an evaluation is over."""


class Query(pyspf.query):  # type: ignore[misc]
    """One identity of a message: its domain's policy for a client."""

    def __init__(self, lookups: Lookups, client: str, helo: str, sender: str) -> None:
        super().__init__(i=client, s=sender, h=helo)
        self._lookups = lookups
        # The names and types that it has asked for.
        self.asked: list[tuple[str, str]] = []
        # A record has a macro (RFC 7208 section 7): the result may be another one for another local part, or HELO.
        self.personal = False
        # The client's names that lead back to it; None while nobody has asked for them.
        self._names: list[str] | None = None

    def evaluate(self) -> tuple[str, str]:
        """The result and the reason. To be run in a greenlet, whose parent is given a Wish at a time and answers it."""
        try:
            result, _, reason = self.check()
        except Exception as error:  # noqa: BLE001
            # pyspf raises where it cannot make sense of a record.
            return "permerror", f"the record cannot be evaluated ({error!a:.100})"
        return result, "no SPF record" if result == "none" else reason

    # What pyspf calls.

    def dns(self, name: str, qtype: str, cnames: object = None, ignore_void: bool = False) -> list[Any]:  # noqa: ARG002, FBT001, FBT002
        """The values at a name. Our lookups follow CNAMEs, and cache answers for their TTL."""
        name = str(name).removesuffix(".").lower()
        if not all(0 < len(label) < 64 for label in name.split(".")):  # noqa: PLR2004
            return []
        values = self._ask(name, qtype, MAX_SECONDS)
        if not values and not ignore_void:
            self._count_void()
        return values

    def dns_mx(self, domainname: str) -> list[str]:
        """The addresses of a domain's MX; void at most once: the limit is one of terms (RFC 7208 section 4.6.4)."""
        hosts = [host for _, host in self.dns(domainname, "MX")]
        if len(hosts) > pyspf.MAX_MX:
            raise pyspf.PermError(f"more than {pyspf.MAX_MX} MX records")
        # A host without a name is "no mail here" (RFC 7505).
        found = [self.dns(host, self.A, ignore_void=True) for host in hosts if host]
        if not all(found):
            self._count_void()
        return [address for addresses in found for address in addresses]

    def validated_ptrs(self) -> list[str]:
        """The client's names that lead back to it, looked up once in an evaluation.

        Whoever owns the client's address writes them. What is wrong with one of them is no match (RFC 7208 section 5.5)
        and costs the sender's domain nothing: upstream makes a temperror of an error, and counts void look-ups.
        """
        if self._names is None:
            names = self._of_client(f"{pyspf.reverse_dots(self.i)}.{self.v}.arpa", "PTR", MAX_SECONDS)[: pyspf.MAX_PTR]
            self._names = [
                name for name in names if self.cidrmatch(self._of_client(name, self.A, NAME_SECONDS), self.cidrmax)
            ]
        return self._names

    def cidrmatch(self, ipaddrs: Iterable[str], n: int) -> bool:
        """Whether the client is in one of the networks; upstream takes 20 times as long.

        Ten "mx" may come to ten thousand addresses.
        """
        family, bits = (socket.AF_INET, 32) if self.A == "A" else (socket.AF_INET6, 128)
        wanted = int(self.ipaddr) >> (bits - n)
        return any(int.from_bytes(socket.inet_pton(family, one), "big") >> (bits - n) == wanted for one in ipaddrs)

    def check0(self, spf: str | None, recursion: int) -> Any:  # noqa: ANN401
        """Evaluate a record. Between two of them the loop serves others, even if DNS is all known."""
        if self.lookups:
            greenlet.getcurrent().parent.switch(None)
        return super().check0(spf, recursion)

    def expand_domain(self, arg: str) -> str:
        """A domain-spec with its macros expanded. Raises spf.PermError."""
        if _TOP_LABEL.split(arg)[-1]:
            raise pyspf.PermError("Invalid domain found (use FQDN)", arg)
        return str(self.expand(arg))

    def get_explanation(self, spec: str) -> None:
        """Nobody is shown it (RFC 7208 section 6.2), so nobody asks for it."""

    # What these have in common.

    def _ask(self, name: str, kind: str, seconds: float) -> list[Any]:
        self.asked.append((name, kind))
        answers = self._lookups.known(name, kind)
        if answers is None:
            answers = greenlet.getcurrent().parent.switch((name, kind, seconds))
        values: list[Any] = [value for _, value in answers]
        if kind == "TXT":
            self.personal |= any(b"%" in text for (text,) in values)
        return values

    def _of_client(self, name: str, kind: str, seconds: float) -> list[Any]:
        """The values at a name that is the client's own; nothing for an error of DNS or an absurd answer."""
        try:
            return self._ask(name.lower(), kind, seconds)
        except OutOfTimeError:
            raise
        except (pyspf.TempError, pyspf.PermError):
            return []

    def _count_void(self) -> None:
        self.void_lookups += 1
        if self.void_lookups > MAX_VOID_LOOKUPS:
            raise pyspf.PermError(f"more than {MAX_VOID_LOOKUPS} terms with void look-ups")
