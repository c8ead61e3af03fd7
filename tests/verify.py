"""Other people's verifiers, dkimpy and pyspf, in a process of their own that imports nothing of ours.

A question is a line of JSON: {"dns": [HOST, PORT], "dkim": MESSAGE} with the message's octets as Latin-1, or
{"dns": …, "spf": [CLIENT, SENDER, HELO]}. So is the answer: true or false, or SPF's result.
"""

import json
import sys
from typing import Any

import dkim
import dns.message
import dns.query
import spf


def _records(server: tuple[str, int], name: str, kind: str) -> list[Any]:
    """The records at a name, CNAMEs followed by the server. Raises an exception of dnspython, or OSError."""
    answer = dns.query.tcp(dns.message.make_query(name, kind), server[0], port=server[1], timeout=10)
    return [one for rrset in answer.answer if rrset.rdtype.name == kind for one in rrset]


def _dkim(server: tuple[str, int], message: bytes) -> bool:
    def text(name: bytes | str, timeout: float = 5) -> bytes | None:
        found = _records(server, name if isinstance(name, str) else name.decode(), "TXT")
        return b"".join(found[0].strings) if found else None

    return dkim.verify(message, dnsfunc=text)


def _spf(server: tuple[str, int], client: str, sender: str, helo: str) -> str:
    def look_up(name: str, kind: str, tcpfallback: bool = True, timeout: float = 30) -> list[tuple[Any, Any]]:
        values = {
            "TXT": lambda one: tuple(one.strings),
            "MX": lambda one: (one.preference, one.exchange.to_text(omit_final_dot=True)),
        }
        value = values.get(kind, lambda one: one.to_text())
        return [((name, kind), value(one)) for one in _records(server, name, kind)]

    spf.DNSLookup = look_up
    return str(spf.check2(i=client, s=sender, h=helo)[0])


def main() -> None:
    """Answer questions until there are no more."""
    for line in sys.stdin:
        question = json.loads(line)
        host, port = question["dns"]
        if "dkim" in question:
            answer: object = _dkim((host, port), question["dkim"].encode("latin-1"))
        else:
            answer = _spf((host, port), *question["spf"])
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
