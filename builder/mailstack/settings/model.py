"""Settings: what a site says about itself, each value by itself.

Descriptions and examples are the source of env.example and of the table in README.md (reference.py); checks sees
whether the values go together; load.py turns what is wrong into text.
"""

from functools import cached_property

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from mailstack.settings.groups.build import Build
from mailstack.settings.groups.clients import Clients
from mailstack.settings.groups.delivery import Delivery
from mailstack.settings.groups.dkim import Dkim
from mailstack.settings.groups.dmarc import Dmarc
from mailstack.settings.groups.identity import Identity
from mailstack.settings.groups.network import Network
from mailstack.settings.groups.spf import Spf
from mailstack.settings.groups.tls import Tls
from mailstack.settings.groups.transport import Transport
from mailstack.values import mail
from mailstack.values.dmarc import reported_to
from mailstack.values.servers import NextHop

PREFIX = "MAILSTACK_"

# What the host name has besides the domains' mailboxes: RFC 2142, and root's own mail.
HOST_ROLES = ("postmaster", "abuse", "root")


def variable(name: str) -> str:
    """The variable of a setting."""
    return PREFIX + name.upper()


def example(name: str) -> str:
    """How a setting may be written."""
    return str((Settings.model_fields[name].examples or [""])[0])


class Settings(Build, Network, Clients, Tls, Transport, Dmarc, Spf, Dkim, Delivery, Identity, BaseSettings):
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

    @cached_property
    def next_hops(self) -> dict[str, NextHop | None]:
        """Where mail for each domain goes; None: to Maildirs."""
        routes = {one.domain: one.hop for one in self.delivery}
        return {domain: routes.get(domain, routes.get(None)) for domain in self.domains}

    @cached_property
    def asked_domains(self) -> frozenset[str]:
        """The domains whose mailbox server says which addresses exist, because no mailbox of theirs is listed."""
        listed = set(map(mail.domain_of, self.mailboxes))
        return frozenset(domain for domain, hop in self.next_hops.items() if hop and domain not in listed)

    @cached_property
    def all_aliases(self) -> tuple[mail.Alias, ...]:
        """The aliases of the site, and those that must exist beside them (RFC 2142; root writes as root@hostname).

        Where a mailbox server says which addresses exist, postmaster@domain is that server's business.
        """
        asked = self.asked_domains
        some_domain = next((one for one in self.domains if one in asked), self.domains[0])
        target = self.postmaster or next(iter(self.mailboxes), f"postmaster@{some_domain}")
        taken = {*self.mailboxes, *(alias.address for alias in self.aliases), target}
        wanted = [f"{role}@{self.hostname}" for role in HOST_ROLES]
        domains = (one for one in self.domains if self.postmaster or one not in asked)
        wanted += [f"{role}@{domain}" for domain in domains for role in ("postmaster", "abuse")]
        implied = (mail.Alias(address, target) for address in dict.fromkeys(wanted) if address not in taken)
        return (*self.aliases, *implied)

    @property
    def reported_to(self) -> tuple[str, ...]:
        """The addresses that get reports about the domains."""
        return reported_to(self.dmarc_record) if self.dmarc_record else self.dmarc_report_addresses

    @cached_property
    def forwards_by_srs(self) -> bool:
        """Whether mail leaves by an alias, with an envelope sender that bounces find back by."""
        here = {*self.domains, self.hostname}
        return self.srs and any(mail.domain_of(one.target) not in here for one in self.all_aliases)
