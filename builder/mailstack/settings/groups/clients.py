"""How much one client may do, who comes through a proxy, and who gets through to port 25 at all."""

import ipaddress
from typing import Annotated

from pydantic import BeforeValidator, Field

from mailstack.settings.groups.kinds import TOKENS, Group, Port
from mailstack.values import network, tokens
from mailstack.values.dnsbl import MAX_WEIGHT, Dnsbl, listing

_MAX_LIMIT = 1_000_000
_MINUTES_OF_A_DAY = 1440

_Limit = Annotated[int, BeforeValidator(tokens.whole_number(0, _MAX_LIMIT, "a limit"))]
_Minutes = Annotated[int, BeforeValidator(tokens.whole_number(1, _MINUTES_OF_A_DAY, "a number of minutes"))]
_ProxyNetwork = Annotated[
    ipaddress.IPv4Network, BeforeValidator(network.narrow_ipv4_network("could name any address as a client's"))
]


class Clients(Group):
    limit_sessions: _Limit = Field(
        default=20,
        description="How many sessions one client may have at a time on a port. 0: any number. This limit and the next "
        "ones are not for TRUSTED_NETWORKS.",
        examples=["40"],
    )
    limit_connections: _Limit = Field(
        default=300,
        description="How many connections one client may make to a port in LIMIT_MINUTES. 0: any number.",
        examples=["60"],
    )
    limit_messages: _Limit = Field(
        default=500,
        description="How many messages one client may send to a port in LIMIT_MINUTES, rejected ones included; it gets "
        "450 for more. 0: any number.",
        examples=["100"],
    )
    limit_recipients: _Limit = Field(
        default=1000,
        description="How many recipients one client may name on a port in LIMIT_MINUTES, rejected ones included; it "
        "gets 450 for more. 0: any number.",
        examples=["200"],
    )
    limit_minutes: _Minutes = Field(
        default=1,
        description="The time, in minutes, in which connections, messages and recipients are counted.",
        examples=["60"],
    )
    limit_user_sessions: _Limit = Field(
        default=20,
        description="In how many sessions at a time one user who is logged in (SASL) may send; more get 450. 0: any "
        "number.",
        examples=["10"],
    )
    limit_user_messages: _Limit = Field(
        default=300,
        description="How many messages one user who is logged in (SASL) may send in LIMIT_USER_MINUTES; more get 450. "
        "0: any number.",
        examples=["100"],
    )
    limit_user_recipients: _Limit = Field(
        default=1000,
        description="To how many recipients one user who is logged in may send in LIMIT_USER_MINUTES, all messages "
        "together; more get 450, and one message with more of them 550. 0: any number.",
        examples=["200"],
    )
    limit_user_minutes: _Minutes = Field(
        default=60,
        description="The time, in minutes, in which messages and recipients of users are counted.",
        examples=["1440"],
    )
    proxy_networks: Annotated[tuple[_ProxyNetwork, ...], *TOKENS] = Field(
        default=(),
        description="Networks of your proxies (haproxy, Traefik). They connect to ports of their own, PORT_SMTP_PROXY "
        "and the next two, name the client by the PROXY protocol (version 1 or 2), and are believed. All others are "
        "disconnected there.",
        examples=["192.0.2.10"],
    )
    port_smtp_proxy: Port = Field(
        default=12525,
        description="The host's port for incoming mail from PROXY_NETWORKS, published if there are such; 0: never.",
        examples=["0"],
    )
    port_submission_proxy: Port = Field(
        default=10587,
        description="The host's port for submission from PROXY_NETWORKS, published if there are such and "
        "TRUSTED_NETWORKS or SASL says who may use it; 0: never.",
        examples=["0"],
    )
    port_submissions_proxy: Port = Field(
        default=10465,
        description="The same with TLS from the start.",
        examples=["0"],
    )
    postscreen: Annotated[bool, BeforeValidator(tokens.boolean)] = Field(
        default=False,
        description="Let postscreen test new clients of PORT_SMTP: mail from one that speaks before the greeting, as "
        "spam programs do, or that is in a list of DNSBL, is rejected. Each new client waits six seconds for the "
        "greeting. TRUSTED_NETWORKS, SPF_SKIP_NETWORKS and DMARC_SKIP_NETWORKS are exempt.",
        examples=["on"],
    )
    dnsbl: Annotated[tuple[Annotated[Dnsbl, BeforeValidator(listing)], ...], *TOKENS] = Field(
        default=(),
        description="DNS lists of clients that postscreen asks: ZONE, ZONE=ANSWERS or ZONE*WEIGHT. A negative weight "
        "is for lists of good clients. A list that does not answer, or answers that it does not serve you, counts "
        "nothing.",
        examples=["dnsbl.example.net*2,other.example.org=127.0.0.[2..11]"],
    )
    dnsbl_threshold: Annotated[int, BeforeValidator(tokens.whole_number(1, MAX_WEIGHT, "a threshold"))] = Field(
        default=1,
        description="The sum of weights at which a client is rejected.",
        examples=["3"],
    )
