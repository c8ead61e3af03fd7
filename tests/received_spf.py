"""The grammar of Received-SPF (RFC 7208 section 9.1), and what it takes from RFC 5322: strict, since others parse it."""

import re

_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_DOT_ATOM = rf"{_ATEXT}(?:\.{_ATEXT})*"
_QUOTED = r'"(?:[\t !#-\[\]-~]|\\[\t -~])*"'
_START = re.compile(
    r"Received-SPF: (?P<result>pass|fail|softfail|neutral|none|temperror|permerror) "
    r"\((?P<comment>[\t !-'*-\[\]-~]*)\) ",
    re.IGNORECASE,
)
_PAIR = re.compile(rf"(?P<key>[A-Za-z][A-Za-z0-9._-]*)=(?:(?P<atom>{_DOT_ATOM})|(?P<quoted>{_QUOTED}))(?:; |$)")


def parse(line: str) -> tuple[str, dict[str, str]]:
    """The result and the pairs of a field; anything that the grammar does not allow is an error."""
    start = _START.match(line)
    assert start, line
    pairs: dict[str, str] = {}
    at = start.end()
    while at < len(line):
        pair = _PAIR.match(line, at)
        assert pair, line[at:]
        assert pair["key"] not in pairs, line
        quoted = pair["quoted"]
        pairs[pair["key"]] = pair["atom"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted[1:-1])
        at = pair.end()
    return start["result"].lower(), pairs
