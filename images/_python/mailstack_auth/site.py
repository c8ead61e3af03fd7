"""The site's settings, as the milter knows them that judges mail from outside and looks at the site's own."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mailstack_auth import names


@dataclass(frozen=True)
class Site:
    hostname: str
    local_domains: frozenset[str]
    # RFC 9989 section 7.4: "follow" takes "reject" for "quarantine" where another domain is authenticated, "reject"
    # refuses then as well, "mark" does neither.
    dmarc: Literal["follow", "reject", "mark"] = "follow"
    spf_fail: str = "reject"
    spf_temperror: str = "defer"
    # None: local domains are not looked at here.
    local_sender: Literal["discard", "reject"] | None = "discard"
    skip_networks: tuple[names.Network, ...] = ()
    skip_domains: tuple[str, ...] = ()
    # How long a message waits for DNS, in hours, and what happens to it then.
    dns_hours: int = 4
    dns_action: Literal["quarantine", "reject"] = "quarantine"
    # Whose mail leaves with a signature or not at all: these domains, and names below those.
    signed: frozenset[str] = frozenset()
    signed_below: frozenset[str] = frozenset()
    # How much a user who is logged in may send in so many minutes; 0: any number.
    user_messages: int = 0
    user_recipients: int = 0
    user_minutes: int = 1
    # In how many sessions at a time; 0: any number.
    user_sessions: int = 0
    # Quarantined mail for these domains and addresses goes to the address with the extension QUARANTINE, which leads to
    # a mailbox's Junk.
    junk: frozenset[str] = frozenset()
    # Addresses of mailboxes and aliases that hold a "+" themselves.
    extended: frozenset[str] = frozenset()
    # Whether mail for an address, or for the others of a domain ("*@domain"), goes on to another server by an alias.
    forwarded: Mapping[str, bool] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Site":
        lists: dict[str, Any] = {
            name: frozenset(data[name]) for name in ("local_domains", "signed", "signed_below", "junk", "extended")
        }
        lists["skip_domains"] = tuple(data["skip_domains"])
        lists["skip_networks"] = tuple(ipaddress.ip_network(one) for one in data["skip_networks"])
        return cls(**{**data, **lists})

    def ours(self, domain: str | None) -> list[str]:
        """The local domains that a name is, or lies below."""
        return [one for one in names.and_parents(domain or "") if one in self.local_domains]
