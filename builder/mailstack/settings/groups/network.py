"""Where the stack listens, whom it asks, and the addresses of its containers."""

import ipaddress
from typing import Annotated

from pydantic import BeforeValidator, Field

from mailstack.settings.groups.kinds import COMMA_TOKENS, TOKENS, Group
from mailstack.values import dnssec, network, servers, tokens
from mailstack.values.dnssec import TrustAnchor

_Port = Annotated[int, BeforeValidator(tokens.whole_number(0, servers.MAX_PORT, "a port"))]


class Network(Group):
    publish_addresses: Annotated[
        tuple[Annotated[ipaddress.IPv4Address, BeforeValidator(network.ipv4_address)], ...], *TOKENS
    ] = Field(
        default=(ipaddress.IPv4Address(0),),
        description="The host's IPv4 addresses to listen on; empty: nothing is published. IPv4 only, because behind "
        "the engine's IPv6 hand-over every client would look like the bridge's gateway. One that is in "
        "PUBLIC_ADDRESSES as well is also the one by which mail leaves.",
        examples=["192.0.2.25"],
    )
    port_smtp: _Port = Field(
        default=25, description="The host's port for mail from outside; 0: not published.", examples=["2525"]
    )
    port_submission: _Port = Field(
        default=587,
        description="The host's port for submission, published where TRUSTED_NETWORKS has somebody who may use it; 0: "
        "never.",
        examples=["0"],
    )
    resolver_forwarders: Annotated[
        tuple[Annotated[servers.Forwarder, BeforeValidator(servers.forwarder)], ...], *TOKENS
    ] = Field(
        default=(),
        description="Resolvers to ask, ADDRESS or ADDRESS@PORT; they must pass DNSSEC on. Empty: ask the root servers "
        "and everyone below them.",
        examples=["192.0.2.53,192.0.2.54@5353"],
    )
    resolver_trust_anchors: Annotated[tuple[TrustAnchor, ...], *COMMA_TOKENS] = Field(
        default=(),
        description="DNSSEC trust anchors in place of the Internet's root keys, which come with the image: DS or "
        "DNSKEY records, commas between. For the root write all of its keys, the next one included.",
        examples=[",".join(dnssec.ROOT_ANCHORS)],
    )
    subnet: Annotated[ipaddress.IPv4Network, BeforeValidator(network.subnet)] = Field(
        default=ipaddress.IPv4Network("172.30.253.0/25"),
        description="Private IPv4 addresses for the networks of the containers, at least a /27. With a /27 there is no "
        "room for containers of your own on the network 'inner'.",
        examples=["10.99.0.0/27"],
    )
