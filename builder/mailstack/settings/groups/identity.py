"""What the appliance is called, and for whom it speaks."""

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from mailstack.settings.groups.kinds import TOKENS, Group
from mailstack.values import mail, network
from mailstack.values.mail import DomainName


class Identity(Group):
    hostname: Annotated[DomainName, AfterValidator(mail.public_name)] = Field(
        description="The mail server's own name: HELO, banner, MX target, Authentication-Results. It must resolve to "
        "this host, and the address must resolve back to it (PTR).",
        examples=["mail.example.com"],
    )
    domains: Annotated[tuple[DomainName, ...], *TOKENS, Field(min_length=1)] = Field(
        description="The mail domains. The first one has the shared DKIM key record and the shared DMARC record.",
        examples=["example.com,example.net"],
    )
    public_addresses: Annotated[
        tuple[Annotated[ipaddress.IPv4Address, BeforeValidator(network.public_address)], ...], *TOKENS
    ] = Field(
        default=(),
        description="The IPv4 addresses that other servers see when this host sends. If set, the printed records "
        "include the host's A record, and SPF lists addresses (no look-ups) instead of 'mx'.",
        examples=["192.0.2.25"],
    )
