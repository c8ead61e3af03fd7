"""The published records of a directory's site, checked."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mailstack.dns import ask
from mailstack.dns.check import site
from mailstack.dns.findings import Report
from mailstack.tasks.load import load_stack


def dns_check(
    directory: Path, environment: Mapping[str, str], resolvers: Sequence[str] = (), port: int = 53
) -> tuple[Report, tuple[str, ...]]:
    """What DNS has of a site's records, with warnings of the settings. Raises as load_stack() does, and DnsError."""
    stack, warnings = load_stack(directory, environment)
    return ask.look(lambda look: site.check(look, stack), resolvers, port), warnings
