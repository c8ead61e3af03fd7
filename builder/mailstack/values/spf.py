"""SPF records as a person writes one: what every receiver calls an error, and what is probably not meant (RFC 7208)."""

import ipaddress
import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from mailstack.errors import shown
from mailstack.values.mail import MAX_NAME
from mailstack.values.tokens import nested

# Section 4.6.4: more terms that look something up are a permerror.
MAX_LOOKUPS = 10
# Section 3.4: longer answers may not fit into a UDP packet of 512 octets.
MAX_OCTETS = 450
# What a TXT record holds: 65535 octets, in strings of 255 with one octet more for their length (RFC 1035 section 3.3).
_MAX_RECORD = 255 * 255 + 254
_LOOKUPS = ("include", "a", "mx", "ptr", "exists", "redirect")
# Wider than this is no network of one's own.
_MIN_PREFIX = {4: 8, 6: 16}
_QUALIFIERS = ("+", "-", "~", "?")
_MECHANISMS = ("all", "a", "mx", "ptr", "include", "exists", "ip4", "ip6")
# Section 12: name "=" macro-string; a mechanism has no "=" before its colon or slash.
_MECHANISM = re.compile(r"all|(?:a|mx|ptr)(?:[:/][^,]+)?|(?:include|exists|ip4|ip6):[^,]+")
_MODIFIER = re.compile(r"[a-z][a-z0-9_.-]*=", re.IGNORECASE)
_WITH_DOMAIN = ("a", "mx", "ptr", "include", "exists", "redirect", "exp")
_LENGTH = r"(0|[1-9][0-9]{0,2})"
_WITH_LENGTHS = re.compile(rf"(.*?)(?:/{_LENGTH})?(?://{_LENGTH})?")
_ADDRESS = re.compile(rf"([0-9a-f:.]+)(?:/{_LENGTH})?")
_DOMAIN = re.compile(r"(?:[a-z0-9_-]{1,63}\.)+[a-z][a-z0-9-]{0,62}\.?", re.IGNORECASE | re.ASCII)
# Section 7.1; the letters c, r and t belong to explanations.
_MACRO = re.compile(r"%(?:[%_-]|\{[slodiphv](?:[1-9][0-9]*)?r?[-.+,/_=]*\})", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Term:
    """A mechanism or modifier in lower case; value is what stands after its mark ":" or "=", with its lengths."""

    text: str
    qualifier: str
    name: str
    mark: str
    value: str

    @property
    def domain(self) -> str:
        """The domain that is named, without the lengths of a prefix."""
        return re.sub(r"(?:/[0-9]+)?(?://[0-9]+)?$", "", self.value).removesuffix(".")


def terms(record: str) -> tuple[Term, ...]:
    """The terms after the version."""
    return tuple(_term(text) for text in record.lower().split()[1:])


def _term(text: str) -> Term:
    bare = _bare(text)
    name = re.split("[:=/]", bare)[0]
    value = bare[len(name) :]
    mark = value[:1] if value[:1] in {":", "="} else ""
    return Term(text, text.removesuffix(bare) or "+", name, mark, value.removeprefix(mark))


def _bare(text: str) -> str:
    """A term without its qualifier, of which it has one at most."""
    return text[1:] if text.startswith(_QUALIFIERS) else text


def spf_record(token: str) -> str:
    """A whole SPF record (section 4.5)."""
    words = token.split()
    if not words or words[0].lower() != "v=spf1":
        raise ValueError("is not an SPF record; a record starts with v=spf1, for example: 'v=spf1 mx -all'")
    if not token.isascii() or not token.isprintable() or '"' in token or "\\" in token:
        raise ValueError("has characters that an SPF record cannot have; write it without quotes and backslashes")
    if len(token) > _MAX_RECORD:
        raise ValueError(f"has {len(token)} characters, and a DNS record has {_MAX_RECORD} at most; shorten it")
    for word in words[1:]:
        _see_kind(word)
    for term in terms(token):
        nested(_see, term.text)
    for name in ("redirect=", "exp="):
        if sum(term.lower().startswith(name) for term in words) > 1:
            raise ValueError(f"has {name} more than once, so the record is invalid (RFC 7208 section 6)")
    mechanisms = [term.name for term in terms(token) if term.mark != "="]
    if "all" in mechanisms[:-1]:
        raise ValueError(
            "has 'all' more than once or not at its end; receivers ignore what follows (RFC 7208 section 5.1)"
        )
    count = _lookups(token)
    if count > MAX_LOOKUPS:
        raise ValueError(
            f"has {count} terms that need DNS lookups, and with more than {MAX_LOOKUPS} the record is invalid "
            "(RFC 7208 section 4.6.4); replace some of them with addresses (ip4:)"
        )
    return " ".join(words)


def _see_kind(word: str) -> None:
    """See that a term is a mechanism or a modifier, and no mechanism that was written as a modifier."""
    term = _term(word.lower())
    if term.name in _MECHANISMS and term.mark == "=":
        name, _, value = word.partition("=")
        meant = f"{name}:{value}" if value and term.name != "all" else name
        raise ValueError(
            f"has {shown(word)}, which receivers ignore; a colon follows the name of a mechanism; "
            f"write {meant if len(meant) <= MAX_NAME else f'{name}:…'}"
        )
    if not _MODIFIER.match(word) and not _MECHANISM.fullmatch(_bare(word.lower())):
        raise ValueError(
            f"has a term that is not an SPF mechanism: {shown(word)}, so the record is invalid; write, for "
            "example: 'v=spf1 mx -all'"
        )


def _see(text: str) -> None:
    """See that the value of a term is what its name asks for (sections 5 and 6); a macro may be anything."""
    term = _term(text)
    if "%" in _MACRO.sub("", term.text):
        raise ValueError("has a % that does not begin a macro, as in %{i} (RFC 7208 section 7)")
    if term.name in {"ip4", "ip6"}:
        version = int(term.name[2])
        try:
            good = _ADDRESS.fullmatch(term.value) and ipaddress.ip_network(term.value, strict=False).version == version
        except ValueError:
            good = False
        if not good:
            raise ValueError(f"has no IPv{version} address or network")
    elif term.name in _WITH_DOMAIN:
        found = _WITH_LENGTHS.fullmatch(term.value) if term.name in {"a", "mx"} else None
        _see_domain(term, found[1] if found else term.value)
        if found and (int(found[2] or 0) > 32 or int(found[3] or 0) > 128):  # noqa: PLR2004
            raise ValueError("has a prefix longer than an address; write /32 or //128 at most")


def _see_domain(term: Term, domain: str) -> None:
    """See that there is a domain name, unless it may be left out with its colon, or made by a macro."""
    if "%" in domain or (not domain and not term.mark and term.name in {"a", "mx", "ptr"}):
        return
    if not _DOMAIN.fullmatch(domain):
        raise ValueError("has no domain name")
    if len(domain.removesuffix(".")) > MAX_NAME:
        raise ValueError(f"has a domain name of more than {MAX_NAME} characters (RFC 1035); shorten it")


def _lookups(record: str) -> int:
    """How many look-ups the text itself asks for; what is included has its own."""
    found = terms(record)
    ends = any(term.name == "all" for term in found)
    return sum(term.name in _LOOKUPS and not (ends and term.name == "redirect") for term in found)


def continued(record: str) -> dict[str, str]:
    """The domains in whose records a record goes on, with the terms that say so; at itself it would never end."""
    return {term.domain: term.text for term in terms(record) if term.name in {"include", "redirect"}}


def covers(
    record: str, hostname: str, domains: Collection[str], addresses: Collection[ipaddress.IPv4Address]
) -> bool | None:
    """Whether a record lets a host send that has these addresses, and is the domains' MX; None: cannot be told."""
    known: bool | None = False
    for term in terms(record):
        # Without one, it is the domain's own address or MX.
        own = term.domain in domains or not term.domain
        if term.qualifier != "+" or term.name in {"ip6", "exp"}:
            continue
        if term.name == "all" or (term.name == "mx" and own) or (term.name == "a" and term.domain == hostname):
            return True
        if term.name == "ip4" and addresses:
            if all(one in ipaddress.ip_network(term.value, strict=False) for one in addresses):
                return True
            if any(one in ipaddress.ip_network(term.value, strict=False) for one in addresses):
                known = None
        else:
            known = None
    return known


def remarks(record: str) -> Iterator[str]:
    """What is allowed and probably not meant; each begins with the term, if it is about one."""
    found = terms(record)
    names = [term.name for term in found]
    for term in found:
        if term.name == "all" and term.qualifier == "+":
            yield f"{term.text!r} lets every host send; write ~all or -all"
        elif term.qualifier == "+" and _too_wide(term):
            yield f"{term.text!r} lets a large part of the Internet send; list your own networks"
        elif term.name == "ptr":
            yield f"{term.text!r} is slow and deprecated (RFC 7208 section 5.5); write addresses instead"
        elif term.name == "redirect" and "all" in names:
            yield f"{term.text!r} has no effect next to 'all'; remove one of them"
    for text in sorted(text for text, count in Counter(term.text for term in found).items() if count > 1):
        yield f"{text!r} is listed twice; remove one"
    if not {"all", "redirect"} & set(names):
        yield "it says nothing about all other hosts; end it with ~all or -all"
    if len(record) > MAX_OCTETS:
        yield (
            f"it has {len(record)} octets, and DNS answers of more than {MAX_OCTETS} may get lost (RFC 7208 "
            "section 3.4); put some of its terms into a record of another name, and 'include:' that"
        )


def _too_wide(term: Term) -> bool:
    if term.name in {"ip4", "ip6"}:
        network = ipaddress.ip_network(term.value, strict=False)
        return network.prefixlen < _MIN_PREFIX[network.version]
    lengths = _WITH_LENGTHS.fullmatch(term.value) if term.name in {"a", "mx"} else None
    if not lengths:
        return False
    return int(lengths[2] or 32) < _MIN_PREFIX[4] or int(lengths[3] or 128) < _MIN_PREFIX[6]


SpfRecord = Annotated[str, AfterValidator(spf_record)]
