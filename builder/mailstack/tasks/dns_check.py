"""The published records of a directory's site, or of any domain, checked."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mailstack.dns import ask
from mailstack.dns.check import domain, site
from mailstack.dns.findings import Report
from mailstack.keys import certificates
from mailstack.stack.model import Stack
from mailstack.tasks.load import load_stack

# Between two looks, in seconds. Servers get a new zone, and resolvers a new record, in minutes.
INTERVAL = 15.0
# More time for each domain: some twenty questions, whose answers take 10 ms of CPU to read.
DOMAIN_SECONDS = 0.02


def dns_check(
    directory: Path,
    environment: Mapping[str, str],
    resolvers: Sequence[str] = (),
    port: int = 53,
    blocklists: Sequence[str] = (),
    *,
    smtp_too: bool = True,
) -> tuple[Callable[[], Report], tuple[str, ...]]:
    """A check of a site's records, to be made once or again, with warnings of the settings; blocklists are asked, too.

    smtp_too: so is port 25 of its addresses.

    Raises as load_stack() does; the check raises DnsError.
    """
    stack, warnings = load_stack(directory, environment)
    return lambda: _site(directory, stack, resolvers, port, blocklists, smtp_too=smtp_too), warnings


def domain_check(
    name: str, resolvers: Sequence[str] = (), port: int = 53, selectors: Sequence[str] = ()
) -> Callable[[], Report]:
    """A check of any domain, and of its DKIM keys at some selectors. It raises DnsError."""
    return lambda: ask.look(lambda look: domain.check(look, name, selectors), resolvers, port)


def watched(
    check: Callable[[], Report], seconds: float, say: Callable[[Report], None], interval: float = INTERVAL
) -> Report:
    """The first report in which nothing is wrong, or the last one before so many seconds are over.

    say is given each report that is not the last, if it is another than the one before. Raises DnsError.
    """
    end = time.monotonic() + seconds
    before = None
    while True:
        report = check()
        if report.worst == "fine" or time.monotonic() + interval > end:
            return report
        if before is None or report.findings != before.findings:
            say(report)
        before = report
        time.sleep(interval)


def _site(
    directory: Path, stack: Stack, resolvers: Sequence[str], port: int, blocklists: Sequence[str], *, smtp_too: bool
) -> Report:
    seconds = ask.SECONDS + DOMAIN_SECONDS * len(stack.domains)
    there = certificates.of_host(directory / stack.tls_directory, stack.hostname)
    return ask.look(
        lambda look: site.check(look, stack, there, blocklists, smtp_too=smtp_too), resolvers, port, seconds
    )
