"""What is wrong with a site, before anything is written or an engine is asked."""

from collections.abc import Mapping
from pathlib import Path

from mailstack.keys import authserv_id, certificates, dkim, srs_key
from mailstack.settings import checks
from mailstack.tasks.load import keys_beside, read, signing_keys, unused_keys


def check(directory: Path, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Validate settings, overrides and the keys that are there, and write nothing; the warnings."""
    chosen, _ = read(directory, environment)
    certificates.check(directory, chosen.tls_directory)
    warnings = checks.warnings(chosen) + unused_keys(directory, chosen)
    # What was never made is no fault: a build makes it.
    for one in signing_keys(directory, chosen) + keys_beside(directory, chosen):
        if not dkim.never_made(directory, *one):
            warnings += dkim.read(directory, *one)[1]
    if authserv_id.is_made(directory):
        warnings += authserv_id.read(directory)[1]
    if srs_key.is_made(directory):
        warnings += srs_key.read(directory)[1]
    return tuple(dict.fromkeys(warnings))
