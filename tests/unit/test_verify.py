"""tests/verify.py: other people's verifiers, which share nothing with the product."""

import asyncio

from support import dkim_sign, message, public_key, rsa_key, verify
from unit.dns_server import Server

KEY = rsa_key(1024)
ZONE = {
    "a.example": [{"TXT": "v=spf1 include:b.example mx -all"}, {"MX": [10, "mx.a.example"]}],
    "b.example": [{"TXT": "v=spf1 ip4:192.0.2.1 -all"}],
    "mx.a.example": [{"A": "192.0.2.2"}],
    "s._domainkey.a.example": [{"TXT": [f"v=DKIM1; k=rsa; p={public_key(KEY)[:200]}", public_key(KEY)[200:]]}],
}


def asked(**question):
    async def run():
        async with Server.of(ZONE).serve() as port:
            return await asyncio.to_thread(verify, ("127.0.0.1", port), **question)

    return asyncio.run(run())


def test_spf():
    """Includes and MX are evaluated as pyspf does it."""
    for client, result in {"192.0.2.1": "pass", "192.0.2.2": "pass", "192.0.2.3": "fail"}.items():
        assert asked(spf=[client, "x@a.example", "mail.example.org"]) == result


def test_dkim():
    """A signature is verified by its published key, and one that was changed is none."""
    signed = dkim_sign(message("x@a.example", "y@b.example", "verify"), "a.example", "s", KEY)
    assert asked(dkim=signed.decode()) is True
    assert asked(dkim=signed.decode().replace("A body", "B body")) is False
