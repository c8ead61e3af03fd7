"""From fields: those that genuine senders write, and any that can be made of an attacker's and a victim's parts."""

import binascii
import random
from collections.abc import Iterator, Sequence
from typing import TypeVar

_T = TypeVar("_T")

# Whose names they are: the attacker's, which SPF and DKIM can pass for, is the one that the victim's is before, behind
# and in.
EVIL = ("evil.example", "bank.example.evil.example", "EVIL.Example", "evil.example.")
BANK = (
    "bank.example",
    "evil.example.bank.example",
    "sub.bank.example",
    ".bank.example",
    "bank.example.",
    "bank",
    "b\u00fcro.example",
    "xn--bro-hoa.example",
)

# What genuine senders write, the author's domain being author.example.
GENUINE = (
    "jane@author.example",
    "<jane@author.example>",
    "Jane <jane@author.example>(by phone)",
    "Jane Doe <jane@author.example>",
    "Jane Doe<jane@author.example>",
    '"Doe, Jane" <jane@author.example>',
    '"Jane \\"J\\" Doe" <jane@author.example>',
    'Jane "J" Doe <jane@author.example>',
    "Dr. J. Doe <jane@author.example>",
    "O'Doe <o'doe@author.example>",
    "'Jane Doe' <jane@author.example>",
    '"AUTHOR\\Jane" <jane@author.example>',
    "jane@author.example (Jane Doe)",
    "jane@author.example (Jane (Author) Doe)",
    "Jane (a (b) c) <jane@author.example>",
    "Jane (Sales, Support) Doe <jane@author.example> (by phone)",
    "Backup: host 1 <jane@author.example>",
    "Jane | Author <jane@author.example>",
    "Jane / Author & Co. <jane@author.example>",
    "Jane #1 *new* {x} ~ $5 <jane@author.example>",
    "jane@author.example <jane@author.example>",
    '"jane@author.example" <jane@author.example>',
    '"jane@list.example" <jane@author.example>',
    "\"'Jane Doe' via List\" <jane@author.example>",
    "\"'jane@list.example' via List\" <jane@author.example>",
    '"jane@list.example via List" <jane@author.example>',
    '"Jane (jane@list.example)" <jane@author.example>',
    "=?utf-8?q?J=C3=A4ne?= <jane@author.example>",
    "=?utf-8?b?SsOkbmU=?= =?iso-8859-1?q?D=F6?= <jane@author.example>",
    "=?utf-8?q?D=C3=B6=2C_Jane_=28Sales=29?= <jane@author.example>",
    '"=?utf-8?q?J=C3=A4ne?=" <jane@author.example>',
    "=?iso-2022-jp?b?GyRCPWk/PBsoQg==?= <jane@author.example>",
    "=?X-UNKNOWN?q?J=E4ne?= <jane@author.example>",
    "jane@author.example (=?utf-8?q?J=C3=A4ne?=)",
    "J\u00e4ne <jane@author.example>",
    "Jane\r\n Doe\r\n\t<jane@author.example>",
    '"Doe,\r\n Jane" <jane@author.example>',
    "bounce+jane=list.example@author.example",
    '"jane doe"@author.example',
    "Jane <jane@AUTHOR.Example>",
    "Jane <jane@author.example>, John <john@author.example>",
    "jane@author.example,john@author.example (John)",
)

# The same in forms that some parsers stop at, and then show nobody.
LENIENT = (
    "[Support] Jane <jane@author.example>",
    '[Tickets] "Doe, Jane" <jane@author.example>',
    "[Tickets] (X-12) Jane <jane@author.example>",
    "Jane [Author] <jane@author.example>",
    "AUTHOR\\Jane <jane@author.example>",
    "jane@author.example.",
    "Jane <jane@author.example.>",
    "Jane jane@author.example <jane@author.example>",
)

# What shows a name of the bank to some readers, and only evil.example to others.
FOOLED = (
    "service@bank.exampl e <any@bank.exampl>",
    "service@bank.exampl\r\n e <any@bank.exampl>",
    "service@bank.exampl (x) e <any@bank.exampl>",
    "any@evil.example a.bank.example <any@evil.example>",
    "admin@bank.example m <any@evil.example>",
    "any@evil.example .bank.example <any@evil.example>",
    "any@evil.example()(.bank.example)",
    '"admin@bank.example\\\\" <any@evil.example>',
    '"admin@bank.example" any@evil.example <any@evil.example>',
    "=?utf-8?q?admin=40bank.example=2C?= <any@evil.example>",
    "=?utf-8?b?PGFkbWluQGJhbmsuZXhhbXBsZT4=?= <any@evil.example>",
    '"=?utf-8?q?=22_=3Cadmin=40bank.example=3E=2C?=" <any@evil.example>',
    "'admin@bank.example' <any@evil.example>",
    '"admin@bank.example" [x] <any@evil.example>',
    "admin@bank.example\\\\ <any@evil.example>",
    '"" "admin@bank.example"().x <any@evil.example>',
)

_LOCAL = ("any", "admin", '"a b"', "a.b", "", "x@", '"x@')
_WORDS = (
    "Bank",
    "m",
    "of",
    "O'X",
    "Dr.",
    "[x]",
    "via",
    "DOMAIN\\user",
    "mailto",
    "Re",
    "From",
    "b\u00e4",
    "\u00a0",
    "\u2028",
    "\uff20",
)
_MARKS = "<>()[]\"\\@,;:.=?_'%! \t/&|"
_OTHERS = (
    "\r\n ",
    "\r\n\t",
    "\n ",
    " ",
    "  ",
    "\r",
    "\x0b",
    "\x0c",
    "\x08",
    "\x1b",
    "\x7f",
    "\x85",
    "\udcff",
    "\udcc3",
    "\ufe6b",
    "\x1b$B",
    "\x1b(B",
    '\\"',
    "\\\\",
    "\\,",
    "\\)",
    "\\@",
    '" "',
    "()",
    "(x)",
    "((x))",
    ", ",
    "; ",
    ": ",
    "<>",
    "@@",
    ":;",
)


class Generator:
    """Random fields, most of them near to what is taken."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311

    def fields(self, count: int) -> Iterator[bytes]:
        """So many values of From."""
        for _ in range(count):
            yield self._field().encode("utf-8", "surrogateescape")

    def _field(self) -> str:
        shapes = (self._named, self._named, self._named, self._bare, self._listed, self._anything, self._near)
        text = self._pick(shapes)()
        for _ in range(self._pick((0, 0, 0, 1, 1, 2))):
            text = self._changed(text)
        return self._pick((" ", " ", "", "\r\n ")) + text

    def _named(self) -> str:
        name = self._pick(("", " ", "")).join(self._piece() for _ in range(self._random.randint(0, 4)))
        return f"{name}{self._pick(('', ' ', ' '))}<{self._address()}>{self._tail()}"

    def _bare(self) -> str:
        return self._comment() * self._pick((0, 0, 1)) + self._address() + self._tail()

    def _listed(self) -> str:
        mailboxes = [self._pick((self._named, self._bare))() for _ in range(self._random.randint(2, 3))]
        return self._pick((",", ", ", ";", " ")).join(mailboxes)

    def _anything(self) -> str:
        return "".join(self._token() for _ in range(self._random.randint(1, 8)))

    def _near(self) -> str:
        text = self._pick((*GENUINE, *LENIENT, *FOOLED))
        for _ in range(self._random.randint(1, 3)):
            text = self._changed(text)
        return text.replace("author.example", self._domain())

    def _changed(self, text: str) -> str:
        at = self._random.randrange(len(text) + 1)
        return text[:at] + self._token() + text[at + self._pick((0, 0, 1)) :]

    def _tail(self) -> str:
        return self._pick(("", "", "", " " + self._comment(), self._comment(), " ", self._token()))

    def _piece(self) -> str:
        kinds = (self._word, self._word, self._address, self._string, self._comment, self._encoded, self._token)
        return self._pick(kinds)()

    def _address(self) -> str:
        return self._pick(("any", "any", *_LOCAL)) + "@" + self._domain()

    def _domain(self) -> str:
        return self._pick((*EVIL[:1] * 8, *EVIL, *BANK))

    def _word(self) -> str:
        return self._pick(_WORDS)

    def _inner(self) -> str:
        kinds = (self._word, self._address, self._token, self._domain)
        return self._pick(("", " ")).join(self._pick(kinds)() for _ in range(self._random.randint(0, 3)))

    def _string(self) -> str:
        return f'"{self._inner()}"'

    def _comment(self) -> str:
        return f"({self._inner()})"

    def _encoded(self) -> str:
        inner = self._pick((self._inner, self._address, self._token))().encode("utf-8", "surrogateescape")
        charset = self._pick(
            ("utf-8", "utf-8", "UTF-8", "us-ascii", "iso-8859-1", "iso-2022-jp", "x-unknown", "utf-8*en")
        )
        if self._pick((True, False)):
            return f"=?{charset}?b?{binascii.b2a_base64(inner, newline=False).decode()}?="
        text = "".join(
            chr(one) if chr(one).isalnum() and one < 128 and self._pick((True, False)) else f"={one:02X}"
            for one in inner
        )
        return f"=?{charset}?{self._pick('qQ')}?{text}?="

    def _token(self) -> str:
        kinds = (_MARKS, _MARKS, _OTHERS, _WORDS, EVIL, BANK, _LOCAL)
        token: str = self._pick(self._pick(kinds))
        return token

    def _pick(self, of: Sequence[_T]) -> _T:
        return self._random.choice(of)
