"""mailstack dns check: each mistake that has a name, published at a name server, is reported with what mends it."""

from dataclasses import replace
from functools import cache

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from mailstack.dns import ask
from mailstack.dns.check import site
from mailstack.dns.check.wanted import row
from mailstack.dns.records import records
from mailstack.keys import dkim
from unit.dns_world import RESOLVER, Internet
from unit.sites import stack

NS1, NS2, NS3 = "127.0.0.2", "127.0.0.3", "127.0.0.4"
ZONES = {
    "example.com": {"ns1.example.net": NS1, "ns2.example.net": NS2},
    "example.net": {"ns1.example.net": NS1},
    "partner.example": {"ns1.partner.example": NS3},
    "2.0.192.in-addr.arpa": {"ns1.example.net": NS1},
    "example": {"ns1.example.net": NS1},
}
ADDRESS = "192.0.2.25"
PTR = "25.2.0.192.in-addr.arpa"
SITE = {"public_addresses": ADDRESS}


@cache
def text_of_key(number):
    """A real key's record."""
    return dkim._record(rsa.generate_private_key(public_exponent=65537, key_size=2048 + 8 * number))


def a_stack(**changes):
    """A site whose keys are real ones, each domain's another."""
    made = stack(**(SITE | changes))
    keys = {}
    for one in made.keys.published:
        keys.setdefault(one.key, replace(one.key, record=text_of_key(len(keys))))
    published = tuple(replace(one, key=keys[one.key]) for one in made.keys.published)
    signing = tuple(replace(one, key=keys[one.key]) for one in made.keys.signing)
    return replace(made, keys=replace(made.keys, published=published, signing=signing))


def world_of(made):
    """A world in which all that a site needs is published."""
    world = Internet(ZONES)
    publish(world, [row(one) for one in records(made)])
    world.publish(made.hostname, "A", ADDRESS)
    world.publish(PTR, "PTR", f"{made.hostname}.")
    return world


def publish(world, rows):
    for one in rows:
        value = one.value if one.type in {"TXT", "A", "AAAA"} else f"{one.value}."
        world.publish(one.name, one.type, *world.published(one.name, one.type), value)


def remove(world, rows):
    """Remove records as a person finds them in a form: by their text."""
    for one in rows:
        left = [value for value in world.published(one.name, one.type) if shown(value) != one.value]
        world.publish(one.name, one.type, *left)


def shown(value):
    text = value if isinstance(value, str) else "".join(value)
    return text if text == "." or not text.endswith(".") else text.removesuffix(".").lower()


def check(world, made):
    with world.served() as port:
        return ask.look(lambda look: site.check(look, made), [RESOLVER], port)


def wrong(report):
    """What is not fine: (level, code, name, type)."""
    return [(one.level, one.code, one.name, one.type) for one in report.findings if one.level != "fine"]


OWN = {
    "one domain": {},
    "no addresses": {"public_addresses": ""},
    "host is a domain": {"hostname": "example.com"},
    "two domains, one key": {"domains": "example.com,example.net"},
    "a key for each domain": {"domains": "example.com,example.net", "dkim_keys": "per-domain"},
    "a sub-domain": {"domains": "sub.example.com", "mailboxes": "user@sub.example.com"},
    "reports elsewhere": {"dmarc_report_addresses": "dmarc@partner.example"},
    "its own SPF record": {"spf_record": "v=spf1 ip4:192.0.2.25 a:mail.example.com include:_spf.partner.example -all"},
}


@pytest.mark.parametrize("changes", OWN.values(), ids=OWN.keys())
def test_own_records_are_green(changes):
    """What `dns records` prints is right, at every server, whatever the settings."""
    made = a_stack(**changes)
    assert wrong(check(world_of(made), made)) == []
