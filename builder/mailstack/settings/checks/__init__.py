"""Whether the values of a site go together: what contradicts, and what is allowed and probably not meant.

A value that was refused by itself is known here by its token, so that nothing is called missing which that token
may have been meant to name; everything else is judged at once.
"""

from mailstack.errors import Fault
from mailstack.settings.checks import addresses, authentication, build, networks
from mailstack.settings.checks.refused import Refused
from mailstack.settings.model import Settings


def contradictions(chosen: Settings, refused: Refused) -> list[Fault]:
    """Every fault that lies in values which are right one by one."""
    return [
        *addresses.contradictions(chosen, refused),
        *networks.contradictions(chosen, refused),
        *build.contradictions(chosen, refused),
        *authentication.contradictions(chosen, refused),
    ]


def warnings(chosen: Settings) -> list[str]:
    """What is allowed and probably not meant, as sentences."""
    return [*networks.warnings(chosen), *authentication.warnings(chosen), *addresses.warnings(chosen)]
