"""A name server on this host for unit tests, and a resolver that asks it."""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping

import dns.asyncresolver
import dns.message

from bench import dns_answers
from mailstack_auth.dns.lookup import Lookups
from mailstack_auth.spf.evaluation import Evaluator


class Server:
    """Answers from zone data; asked holds the questions, "NAME TYPE" each."""

    def __init__(self, answer: dns_answers.Answer) -> None:
        self._answer = answer
        self.asked: list[str] = []

    @classmethod
    def of(cls, zone: Mapping[str, dns_answers.Records], *, ttl: int = 300) -> "Server":
        """From zone data in the form of the RFC 7208 suite; "TIMEOUT" is silence."""
        return cls(dns_answers.Zone(zone, silent=True, ttl=ttl))

    def _counted(self, query: dns.message.Message) -> dns.message.Message | None:
        question = query.question[0]
        self.asked.append(f"{question.name.to_text(omit_final_dot=True)} {question.rdtype.name}")
        return self._answer(query)

    def serve(self) -> contextlib.AbstractAsyncContextManager[int]:
        """Serve in the running loop; the port."""
        return dns_answers.serve(self._counted, "127.0.0.1")

    @contextlib.asynccontextmanager
    async def lookups(self, **options: Callable[[], float]) -> AsyncIterator[Lookups]:
        """Serve, and look-ups that ask this server alone."""
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = ["127.0.0.1"]
        async with self.serve() as resolver.port:
            yield Lookups(resolver, **options)

    @contextlib.asynccontextmanager
    async def evaluator(self, seconds: float = 20.0) -> AsyncIterator[Evaluator]:
        """Serve, and an evaluator with such look-ups."""
        async with self.lookups() as lookups:
            yield Evaluator(lookups, seconds)
