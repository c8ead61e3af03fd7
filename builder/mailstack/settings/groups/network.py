"""Where the stack listens, whom it asks, and the addresses of its containers."""

import ipaddress
from typing import Annotated

from pydantic import BeforeValidator, Field

from mailstack.settings.groups.kinds import COMMA_TOKENS, TOKENS, Group, Port
from mailstack.values import dnssec, network, servers
from mailstack.values.dnssec import TrustAnchor


class Network(Group):
    publish_addresses: Annotated[
        tuple[Annotated[ipaddress.IPv4Address, BeforeValidator(network.ipv4_address)], ...], *TOKENS
    ] = Field(
        default=(ipaddress.IPv4Address(0),),
        description="The host's IPv4 addresses to listen on; empty: no port is published. IPv4 only, because over "
        "IPv6 the engine shows every client under the bridge gateway's address.",
        examples=["192.0.2.25"],
    )
    outgoing_address: Annotated[ipaddress.IPv4Address | None, BeforeValidator(network.outgoing_address)] = Field(
        default=None,
        description="The IPv4 address of this host that mail leaves from, if the host has several. Not set: the only "
        "address in PUBLISH_ADDRESSES if it is also in PUBLIC_ADDRESSES, else what the host's routes choose.",
        examples=["192.0.2.26"],
    )
    port_smtp: Port = Field(
        default=25, description="The host's port for incoming mail; 0: not published.", examples=["2525"]
    )
    port_submission: Port = Field(
        default=587,
        description="The host's port for submission, published if TRUSTED_NETWORKS or SASL says who may use it. 0: "
        "never published.",
        examples=["0"],
    )
    port_submissions: Port = Field(
        default=465,
        description="The host's port for submission with TLS from the start, published if TRUSTED_NETWORKS or SASL "
        "says who may use it. 0: never published.",
        examples=["0"],
    )
    resolver_forwarders: Annotated[
        tuple[Annotated[servers.Forwarder, BeforeValidator(servers.forwarder)], ...], *TOKENS
    ] = Field(
        default=(),
        description="The resolvers to ask: ADDRESS or ADDRESS@PORT. They must support DNSSEC. Empty: the resolver asks "
        "the root servers and all other name servers itself.",
        examples=["192.0.2.53,192.0.2.54@5353"],
    )
    resolver_trust_anchors: Annotated[tuple[TrustAnchor, ...], *COMMA_TOKENS] = Field(
        default=(),
        description="DNSSEC trust anchors instead of the Internet's root keys, which are in the image: DS or DNSKEY "
        "records, separated by commas. For the root, write all of its keys, including the next one.",
        examples=[",".join(dnssec.ROOT_ANCHORS)],
    )
    subnet: Annotated[ipaddress.IPv4Network, BeforeValidator(network.subnet)] = Field(
        default=ipaddress.IPv4Network("172.30.253.0/25"),
        description="The private IPv4 range for the containers' networks, at least a /27. A /27 has no room for "
        "containers of your own on the network 'inner'.",
        examples=["10.99.0.0/27"],
    )
