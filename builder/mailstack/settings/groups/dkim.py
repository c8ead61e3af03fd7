"""Whose mail is signed, and with which key."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from mailstack.settings.groups.kinds import TOKENS, Group
from mailstack.values import mail, network, tokens
from mailstack.values.mail import Selector

MAX_KEY_BITS = 4096


class Dkim(Group):
    dkim_selector: Selector = Field(
        default="default", description="The DKIM selector, part of the key record's name.", examples=["s2026"]
    )
    dkim_key_bits: Annotated[
        int, BeforeValidator(tokens.whole_number(mail.MIN_KEY_BITS, MAX_KEY_BITS, "a usable key length"))
    ] = Field(
        default=mail.GOOD_KEY_BITS,
        description="The length of new RSA keys, in bits. At least 1024; below 2048 a build warns.",
        examples=["4096"],
    )
    dkim_keys: Literal["shared", "per-domain"] = Field(
        default="shared",
        description="'shared': one key for all; the other domains' key records are CNAMEs to the first domain's. "
        "'per-domain': each domain has its own key.",
        examples=["per-domain"],
    )
    sign_subdomains: Annotated[bool, BeforeValidator(tokens.boolean)] = Field(
        default=True,
        description="Also sign mail from sub-domains of a domain, with the domain's own d=.",
        examples=["false"],
    )
    trusted_networks: Annotated[
        tuple[
            Annotated[network.Network, BeforeValidator(network.narrow_network("would make this host an open relay"))],
            ...,
        ],
        *TOKENS,
    ] = Field(
        default=(),
        description="Networks whose hosts may send through this one without a password: their mail is relayed and "
        "signed, and never checked. The postfix container's own loopback is always trusted, the host's is not.",
        examples=["192.0.2.0/28"],
    )
