"""What is wrong with a site, before anything is written or an engine is asked."""

from collections.abc import Mapping
from pathlib import Path

from mailstack.keys import authserv_id, dkim
from mailstack.settings import checks
from mailstack.stack.decide import key_domains
from mailstack.tasks.load import read, unused_keys


def check(directory: Path, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Validate settings, overrides and the keys that are there, and write nothing; the warnings."""
    chosen, _ = read(directory, environment)
    warnings = checks.warnings(chosen) + unused_keys(directory, chosen)
    for domain in key_domains(chosen):
        warnings += dkim.look(directory, domain, chosen.dkim_selector)
    warnings += authserv_id.look(directory)
    return tuple(dict.fromkeys(warnings))
