"""Settings: what a site says about itself, each value by itself.

Descriptions and examples are the source of env.example and of the table in README.md (reference.py); checks sees
whether the values go together; load.py turns what is wrong into text.
"""

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from mailstack.settings.groups.build import Build
from mailstack.settings.groups.delivery import Delivery
from mailstack.settings.groups.dkim import Dkim
from mailstack.settings.groups.dmarc import Dmarc
from mailstack.settings.groups.identity import Identity
from mailstack.settings.groups.network import Network
from mailstack.settings.groups.spf import Spf
from mailstack.settings.groups.tls import Tls
from mailstack.settings.groups.transport import Transport
from mailstack.values import mail

PREFIX = "MAILSTACK_"

# What the host name has besides the domains' mailboxes: RFC 2142, and root's own mail.
HOST_ROLES = ("postmaster", "abuse", "root")


def variable(name: str) -> str:
    """The variable of a setting."""
    return PREFIX + name.upper()


def example(name: str) -> str:
    """How a setting may be written."""
    return str((Settings.model_fields[name].examples or [""])[0])


class Settings(Build, Network, Tls, Transport, Dmarc, Spf, Dkim, Delivery, Identity, BaseSettings):
    """One site. A field FOO is the variable MAILSTACK_FOO.

    The order is that of env.example: pydantic takes the fields of the last base first.
    """

    # Values are text and nothing else: none is decoded as JSON.
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", enable_decoding=False, validate_default=False
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What load.py hands over, and never the process's own environment."""
        return (init_settings,)


def implied_aliases(settings: Settings) -> tuple[mail.Alias, ...]:
    """The aliases that must exist beside those of the site (RFC 2142; root writes as root@hostname).

    With a mailbox server behind us and no list of its addresses, postmaster@domain is that server's business.
    """
    target = settings.postmaster or next(iter(settings.mailboxes), f"postmaster@{settings.domains[0]}")
    taken = {*settings.mailboxes, *(alias.address for alias in settings.aliases), target}
    wanted = [f"{role}@{settings.hostname}" for role in HOST_ROLES]
    if settings.mailboxes or settings.postmaster:
        wanted += [f"{role}@{domain}" for domain in settings.domains for role in ("postmaster", "abuse")]
    return tuple(mail.Alias(address, target) for address in dict.fromkeys(wanted) if address not in taken)
