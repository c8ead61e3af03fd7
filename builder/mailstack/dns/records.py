"""Stack → the DNS records that make its mail believed, each with the reason for it."""

from dataclasses import dataclass

from mailstack.stack.model import Stack

MX_PREFERENCE = 10


@dataclass(frozen=True)
class Record:
    """A record to publish. The name has no final dot; a name in value ends with one, as in a zone file.

    domain is the name of the site that the record belongs to, itself or the nearest above; widest the farthest one.
    """

    name: str
    type: str
    value: str
    domain: str
    widest: str
    why: str


def records(stack: Stack) -> tuple[Record, ...]:
    """All records of a site: addresses, MX, SPF, DKIM and DMARC, one SPF record for each name."""
    ours = {*stack.domains, stack.hostname, *(_domain(one) for one in stack.dmarc_report_addresses)}
    rows = []
    for kind, name, value, why in _rows(stack):
        above = [one for one in (name, *_parents(name)) if one in ours]
        rows.append(Record(name, kind, value, above[0], above[-1], why))
    return tuple(rows)


def count(stack: Stack) -> int:
    """How many records() has."""
    return len(_rows(stack))


def beside(stack: Stack) -> tuple[str, ...]:
    """What must exist beside the records, in words: it is another zone's, or nobody knows it, or it is not to be."""
    host, addresses = stack.hostname, stack.public_addresses
    pointers = [f"{one.reverse_pointer}. PTR {host}." for one in addresses] or [f"its address's PTR record is {host}."]
    return (
        *(() if addresses else (f"A: an A record of {host} with this host's address",)),
        *(f"PTR: {one}; your provider sets it" for one in pointers),
        f"AAAA: no AAAA record of {host}, because nothing listens on IPv6",
    )


_Row = tuple[str, str, str, str]


def _rows(stack: Stack) -> list[_Row]:
    mx = f"{MX_PREFERENCE} {stack.hostname}."
    found = _addresses(stack)
    found += [("MX", domain, mx, "MX: the server that receives mail for the domain") for domain in stack.domains]
    found += [
        ("TXT", domain, _spf(stack), "SPF: the servers that send mail for the domain") for domain in stack.domains
    ]
    if stack.hostname not in stack.domains:
        found.append(
            ("TXT", stack.hostname, _host_spf(stack), "SPF: for HELO and for bounces, which have no sender address")
        )
    return found + _dkim(stack) + _dmarc(stack)


def _addresses(stack: Stack) -> list[_Row]:
    """No AAAA: the stack listens on IPv4 only, and others would try the AAAA first."""
    return [
        ("A", stack.hostname, str(address), "A: the address of the mail server") for address in stack.public_addresses
    ]


def _spf(stack: Stack) -> str:
    """RFC 7208. Addresses need no look-ups; an 'mx' costs two, and void ones for each family that is missing."""
    if stack.spf_record:
        return stack.spf_record
    senders = [f"ip4:{address}" for address in stack.public_addresses] or ["mx"]
    return " ".join(["v=spf1", *senders, f"{stack.spf_qualifier}all"])


def _host_spf(stack: Stack) -> str:
    """Nothing but this host says HELO with its name, so the record may always end in -all (RFC 7208 section 2.3).

    Where mail leaves by a relay host, the site's own record lists that, for mail that SRS gives a sender of this name.
    By one for senders of this name alone, bounces do not leave.
    """
    senders = [f"ip4:{address}" for address in stack.public_addresses] or ["a"]
    relayed = {one.domain for one in stack.relays}
    if stack.spf_record and None in relayed:
        return stack.spf_record
    rest = stack.spf_record.partition(" ")[2] if stack.spf_record and stack.hostname in relayed else "-all"
    return " ".join(["v=spf1", *senders, rest])


def _dkim(stack: Stack) -> list[_Row]:
    rows = []
    signers, spare, revoked = {*stack.keys.signers}, {*stack.keys.spare}, {*stack.keys.revoked}
    for one in (*stack.keys.published, *stack.keys.revoked):
        key = one.key
        if one.name == key.name:
            why = "the public key that verifies signatures"
            if one in revoked:
                why = "revokes a key that is destroyed"
            elif one in spare:
                why = "the spare public key, for signatures after the next rotation"
            elif key not in signers:
                why = "another public key that verifies signatures"
            rows.append(("TXT", one.name, key.record, f"DKIM: {why}"))
        else:
            # Other domains point to a label in the key's own domain, so that they need not change when that does.
            target = key.name if one.domain == key.domain else f"{one.selector}._domainkey.{key.domain}"
            which = "spare" if one in spare else "public"
            rows.append(("CNAME", one.name, f"{target}.", f"DKIM: points to the shared {which} key"))
    return rows


def _dmarc(stack: Stack) -> list[_Row]:
    """RFC 9989. One record, at the first domain; the others point to it."""
    first = stack.domains[0]
    rows: list[_Row] = [
        ("TXT", f"_dmarc.{first}", stack.dmarc_record, "DMARC: what receivers do with mail that fails DMARC")
    ]
    # A host name below one of the domains is covered by that domain's record (RFC 9989, tree walk).
    domains = set(stack.domains)
    owners = [one for one in stack.signing_domains if one in domains or domains.isdisjoint(_parents(one))]
    rows += [
        ("CNAME", f"_dmarc.{one}", f"_dmarc.{first}.", "DMARC: points to the shared policy")
        for one in owners
        if one != first
    ]
    for address in stack.dmarc_report_addresses:
        receiver = _domain(address)
        # RFC 9990 section 4: a receiver outside the organisational domain says that it wants the reports. Names of
        # which one lies below the other count as one organisation; an authorisation too many does no harm.
        rows += [
            ("TXT", f"{one}._report._dmarc.{receiver}", "v=DMARC1;", f"DMARC: {receiver} accepts reports about {one}")
            for one in owners
            if one != receiver and not receiver.endswith(f".{one}") and not one.endswith(f".{receiver}")
        ]
    return list(dict.fromkeys(rows))


def _domain(address: str) -> str:
    return address.rpartition("@")[2]


def _parents(name: str) -> list[str]:
    """The names above a name, the nearest first."""
    labels = name.split(".")
    return [".".join(labels[at:]) for at in range(1, len(labels))]
