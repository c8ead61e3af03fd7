"""Where the mail for a recipient goes: to a mailbox's Junk, or on to another server."""

import re

from mailstack_auth.site import Site

# What postsrsd makes; case does not count.
_SRS = re.compile(rb"srs[01]=", re.IGNORECASE)


def in_junk(recipient: bytes, site: Site) -> bytes | None:
    """The address of a recipient's Junk: with an extension of its own (postconf(5), recipient_delimiter).

    None if there is none here: the mail of its domain goes to a mailbox server, or on by SRS.
    """
    local, domain = _listed(recipient, site)
    if by_srs(recipient, site) or site.junk.isdisjoint({_text(b"", domain), _text(local, domain)}):
        return None
    return b"<" + local + b"+quarantine@" + domain + b">"


def forwarded(recipient: bytes, site: Site) -> bool:
    """Whether mail for a recipient goes on to another server, by an alias or by SRS."""
    local, domain = _listed(recipient, site)
    named = (_text(local, domain), _text(b"*", domain))
    return by_srs(recipient, site) or next((site.forwarded[one] for one in named if one in site.forwarded), False)


def by_srs(address: bytes, site: Site) -> bool:
    """Whether an address looks like an SRS address of this host; a bounce to one goes back to the original sender."""
    local, domain = _parts(address, site)
    return bool(_SRS.match(local)) and _text(b"", domain) == site.hostname


def _listed(recipient: bytes, site: Site) -> tuple[bytes, bytes]:
    """Local part and domain of an address as Postfix's tables have it: without its extension."""
    local, domain = _parts(recipient, site)
    if _text(local, domain) not in site.extended:
        local = local.partition(b"+")[0]
    # Of existing addresses none needs its quotes.
    return local.strip(b'"'), domain


def _parts(address: bytes, site: Site) -> tuple[bytes, bytes]:
    # A postmaster may have no domain (RFC 5321 section 4.5.1).
    local, _, domain = address.removeprefix(b"<").removesuffix(b">").rpartition(b"@")
    return (local, domain) if local else (domain, site.hostname.encode())


def _text(local: bytes, domain: bytes) -> str:
    """An address, or a domain, as the site's lists have it."""
    return b"@".join(filter(None, (local, domain))).decode("latin-1").lower()
