"""DNS for pyspf, by dnspython. A failure of DNS is an error here, never an empty answer.

pyspf's own driver for py3dns takes SERVFAIL for "no such record", which turns temperror into none or permerror; the one
for dnspython searches the host's own domain and lets exceptions through that are no results.
"""

from functools import cache
from typing import Any

import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver
import spf

Answer = tuple[tuple[str, str], object]


@cache
def _resolver() -> dns.resolver.Resolver:
    return dns.resolver.Resolver()


def look_up(name: str, kind: str, strict: object = True, timeout: float = 20) -> list[Answer]:  # noqa: ARG001, FBT002
    """The records at a name in pyspf's form, CNAMEs followed; empty for NXDOMAIN, for NODATA and for no DNS name.

    Raises spf.TempError when DNS gives no answer within timeout seconds. The signature is pyspf's.
    """
    try:
        owner = dns.name.from_text(name)
    except (dns.exception.DNSException, UnicodeError):
        return []
    try:
        answer = _resolver().resolve(owner, kind, lifetime=timeout, search=False, raise_on_no_answer=False)
    except (dns.resolver.NXDOMAIN, dns.resolver.YXDOMAIN):
        return []
    except dns.exception.DNSException as error:
        raise spf.TempError(f"DNS {error}") from None
    return [((name, kind), _value(record)) for record in answer.rrset or ()]


def _value(record: Any) -> object:  # noqa: ANN401
    match record.rdtype:
        case dns.rdatatype.TXT:
            return record.strings
        case dns.rdatatype.MX:
            return record.preference, record.exchange.to_text(omit_final_dot=True)
        case dns.rdatatype.PTR:
            return record.target.to_text(omit_final_dot=True)
        case _:
            return record.to_text()
