"""Records about TLS, where they are published: TLSA, CAA, MTA-STS, TLS-RPT. None of them is needed."""

import asyncio
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mailstack.dns.ask import Look
from mailstack.dns.findings import Finding, Row
from mailstack.dns.replies import Seen
from mailstack_auth.names import and_parents

# RFC 6698 section 2.1; SMTP has no use for the others (RFC 7672 section 3.1.3).
_TRUST_ANCHOR, _END_ENTITY = "2", "3"
_HASHES: Mapping[str, Callable[[bytes], str]] = {
    "0": bytes.hex,
    "1": lambda octets: hashlib.sha256(octets).hexdigest(),
    "2": lambda octets: hashlib.sha512(octets).hexdigest(),
}
# RFC 8461 section 3.1, RFC 8460 section 3.
_STS = re.compile(r"v=STSv1[ \t]*;[ \t]*id=[A-Za-z0-9]{1,32}[ \t]*(?:;.*)?")
_URI = r"(?:mailto:[^@,;\s]+@|https:)[^,;\s]+"
_REPORTS = re.compile(rf"v=TLSRPTv1[ \t]*;[ \t]*rua={_URI}(?:[ \t]*,[ \t]*{_URI})*[ \t]*(?:;.*)?")
_NO_ISSUER = ";"


async def tlsa(look: Look, hostname: str, certificates: Sequence[x509.Certificate]) -> list[Finding]:
    """Whether the TLSA records of port 25 are those of the site's certificates (RFC 7672).

    certificates are those for the host name, and their issuers'; with none of them nothing can be compared.
    """
    name = f"_25._tcp.{hostname}"
    seen = await look.see(name, "TLSA")
    if not seen.values:
        return []
    signed = await look.resolve(name, "TLSA")
    if signed.values and not signed.secure:
        root = await look.resolve(".", "SOA")
        if root.secure:
            what = "TLSA records count in signed zones only, so nobody uses these"
            return [Finding("warning", "tlsa-insecure", name, "TLSA", what, seen.values, by_hand="Sign the zone")]
    useless = [one for one in seen.values if one.split()[0] not in {_TRUST_ANCHOR, _END_ENTITY}]
    found = [_useless(seen, one) for one in useless]
    if not certificates:
        what = "there is no certificate in tls/ that the records could be compared with"
        return [*found, Finding("fine", "tlsa", name, "TLSA", what)]
    rest = [one for one in seen.values if one not in useless]
    right = [one for one in rest if any(_is_of(one, certificate) for certificate in certificates)]
    if right:
        return [*found, Finding("fine", "fine", name, "TLSA", "a record is that of the certificate")]
    return [*found, _mismatch(seen, rest, certificates[0])]


def _useless(seen: Seen, value: str) -> Finding:
    what = f"usage {value.split(maxsplit=1)[0]} is not for SMTP, so servers pass over the record (RFC 7672)"
    return Finding("warning", "tlsa-usage", seen.name, "TLSA", what, (value,), remove=(Row(seen.name, "TLSA", value),))


def _mismatch(seen: Seen, values: Sequence[str], certificate: x509.Certificate) -> Finding:
    row = Row(seen.name, "TLSA", f"3 1 1 {_HASHES['1'](_key(certificate))}")
    what = "no record is that of a certificate in tls/, so servers that use DANE do not deliver here (RFC 7672)"
    remove = tuple(Row(seen.name, "TLSA", one) for one in values)
    return Finding("fault", "tlsa-mismatch", seen.name, "TLSA", what, tuple(values), seen.where(), remove, (row,))


def _is_of(value: str, certificate: x509.Certificate) -> bool:
    """Whether a record is that of a certificate, by its key or as a whole."""
    _, selector, kind, *data = value.split()
    octets = _key(certificate) if selector == "1" else certificate.public_bytes(Encoding.DER)
    return kind in _HASHES and selector in {"0", "1"} and "".join(data) == _HASHES[kind](octets)


def _key(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


async def caa(look: Look, hostname: str) -> list[Finding]:
    """Who may issue certificates for the host name: the records of the nearest name that has some (RFC 8659)."""
    for name in and_parents(hostname):
        answer = await look.resolve(name, "CAA")
        if answer.values:
            issuers = [_issuer(one) for one in answer.values if one.split()[1] == "issue"]
            if not issuers:
                return []
            if not any(issuers):
                what = f"nobody may issue a certificate for {hostname} (RFC 8659)"
                by_hand = "Add the name of your certificate authority"
                return [Finding("warning", "caa-nobody", name, "CAA", what, answer.values, by_hand=by_hand)]
            what = f"certificates for {hostname} come from {', '.join(filter(None, issuers))} alone"
            return [Finding("fine", "fine", name, "CAA", what)]
    return []


def _issuer(value: str) -> str:
    """The domain of an issuer, without parameters; empty for nobody."""
    return value.partition('"')[2].partition('"')[0].partition(_NO_ISSUER)[0].strip()


async def policies(look: Look, domain: str) -> list[Finding]:
    """MTA-STS and reports on TLS of a domain."""
    sts, reports = await asyncio.gather(look.see(f"_mta-sts.{domain}", "TXT"), look.see(f"_smtp._tls.{domain}", "TXT"))
    found = [*_one_of(sts, "MTA-STS", "v=STSv1", _STS), *_one_of(reports, "TLS report", "v=TLSRPTv1", _REPORTS)]
    if any(one.name == sts.name for one in found):
        host = f"mta-sts.{domain}"
        answers = await asyncio.gather(*(look.resolve(host, kind) for kind in ("A", "AAAA")))
        if not any(one.values or one.failure for one in answers):
            what = f"{host} has no address, so nobody can get the policy that _mta-sts.{domain} announces (RFC 8461)"
            by_hand = f"Publish an address of {host}, or remove the record of _mta-sts.{domain}"
            found.append(Finding("fault", "mta-sts-host", host, "A", what, by_hand=by_hand))
    return found


def _one_of(seen: Seen, what: str, version: str, form: re.Pattern[str]) -> Iterator[Finding]:
    values = tuple(one for one in seen.values if one.startswith(version))
    if len(values) > 1:
        text = f"{len(values)} {what} records share one name, so none of them counts"
        yield Finding("fault", "several-records", seen.name, "TXT", text, values, seen.where(), by_hand="Keep one")
    elif values and not form.fullmatch(values[0]):
        text = f"the {what} record has not the form that others read, so it does not count"
        yield Finding("fault", "malformed", seen.name, "TXT", text, values, seen.where(), by_hand="Correct it")
    elif values:
        yield Finding("fine", "fine", seen.name, "TXT", f"a {what} record is there", where=seen.where())
