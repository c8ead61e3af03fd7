"""DNS lists of clients (RFC 5782), as postconf(5) writes them: ZONE[=ANSWERS][*WEIGHT]."""

import re
from dataclasses import dataclass

from mailstack.values.mail import domain_name
from mailstack.values.tokens import nested

# RFC 5782 section 5: 127.0.0.1 is never listed. Lists answer 127.255.255.x to those whom they do not serve, and
# 127.0.0.255 where too much was asked; neither says anything about a client.
LISTED = "127.0.[0..255].[2..254]"
MAX_WEIGHT = 99
_NUMBERS = r"[0-9]{1,3}(?:\.\.[0-9]{1,3})?"
_PART = rf"(?:[0-9]{{1,3}}|\[{_NUMBERS}(?:;{_NUMBERS})*\])"
_ANSWERS = re.compile(rf"{_PART}(?:\.{_PART}){{3}}")
_WEIGHT = re.compile(r"-?[1-9][0-9]?")
_MAX_OCTET = 255


@dataclass(frozen=True)
class Dnsbl:
    """A list by its zone; the answers that mean "listed", and what that counts (negative: for the client)."""

    zone: str
    answers: str = LISTED
    weight: int = 1

    def __str__(self) -> str:
        return f"{self.zone}={self.answers}*{self.weight}"


def listing(token: str) -> Dnsbl:
    """A list as people write it."""
    rest, star, weight = token.partition("*")
    zone, equals, answers = rest.partition("=")
    if star and not _WEIGHT.fullmatch(weight):
        raise ValueError(
            f"has no weight after * (-{MAX_WEIGHT} to {MAX_WEIGHT}, not 0); write, for example: dnsbl.example.net*2"
        )
    if equals and not _is_filter(answers):
        raise ValueError(
            "has no pattern of IPv4 addresses after =; write, for example: dnsbl.example.net=127.0.0.[2..11]"
        )
    return Dnsbl(nested(domain_name, zone), answers or LISTED, int(weight or 1))


def _is_filter(answers: str) -> bool:
    """Whether postscreen takes it (postconf(5), postscreen_dnsbl_sites): octets, and ranges of them in brackets."""
    ranges = [[int(end) for end in one.split("..")] for one in re.findall(_NUMBERS, answers)]
    return bool(_ANSWERS.fullmatch(answers)) and all(one == sorted(one) and one[-1] <= _MAX_OCTET for one in ranges)
