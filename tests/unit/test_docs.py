"""What the documents name is there: tests, files; and what they say of the rendered files and of dmarc's code holds."""

import ast
import asyncio
import ipaddress
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from mailstack.render import services, site
from mailstack_auth import authres, dmarc, dmarcd, lookup, milter, policyd, signatures, supervisor, verification, wire
from mailstack_auth.author import AmbiguousError, author_domain
from mailstack_auth.counts import Counts
from mailstack_auth.deferrals import Deferrals
from mailstack_auth.evaluation import Evaluator, Result
from mailstack_auth.lookup import Lookups
from mailstack_auth.policy import Message, Policy
from mailstack_auth.verdict import Doubt, Facts, Outcome, Site, Spf, decide, given_up
from unit.dns_server import Server
from unit.sites import stack

CHECKOUT = Path(__file__).parents[2]
DOCUMENTS = sorted([*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/*.md")])
FAULTS = CHECKOUT / "docs/faults.md"
# Says of each command that it does not run itself where that is done.
ELSEWHERE = CHECKOUT / "tests/integration/judging/test_documents.py"
_NODE_ID = re.compile(r"(tests/[\w/]+\.py)::(\w+)")
_LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")


def node_ids(text: str) -> set[tuple[str, str]]:
    return set(_NODE_ID.findall(text))


def functions_of(file: str) -> set[str]:
    """The names of a file's test functions; of none if there is no such file."""
    path = CHECKOUT / file
    body = ast.parse(path.read_text()).body if path.is_file() else []
    return {one.name for one in body if isinstance(one, ast.FunctionDef) and one.name.startswith("test_")}


def test_named_tests_exist():
    """Every pytest node id in a document, or where one stands for a document's command, is a test."""
    named = {one for document in (*DOCUMENTS, ELSEWHERE) for one in node_ids(document.read_text())}
    assert len(named) > 50
    assert [f"{file}::{name}" for file, name in sorted(named) if name not in functions_of(file)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda one: one.name)
def test_relative_links(document: Path):
    """Every link to another file of the project leads to one."""
    links = _LINK.findall(document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_every_fault_is_held_or_not_built_yet():
    """No row of the table is empty: it names a test, or says that the part is not built yet."""
    rows = [line for line in FAULTS.read_text().splitlines() if line.startswith("| ")]
    rows = [line for line in rows if not line.startswith(("| ---", "| fault |"))]
    assert len(rows) > 40
    assert [row for row in rows if not node_ids(row) and "Not built yet" not in row] == []


def test_socket_paths_hold_in_the_chroot():
    """No Unix socket in Postfix's configuration has an absolute path."""
    text = "".join(
        services(stack())["postfix"][f"etc/postfix/{name}"].content.decode() for name in ("main.cf", "master.cf")
    )
    paths = re.findall(r"(?:unix|local):(\S+)", text)
    assert len(paths) >= 2
    assert [path for path in paths if path.startswith("/")] == []


def test_what_is_written_lies_on_volumes():
    """A mount that a container may write to is a named volume; a secret asks for no owner and no mode."""
    compose = yaml.safe_load(site(stack())["compose.yaml"].content)
    for service in compose["services"].values():
        for mount in service["volumes"]:
            if isinstance(mount, str):
                assert mount.partition(":")[0] in compose["volumes"]
            else:
                assert mount["read_only"]
        assert all(secret.keys() == {"source", "target"} for secret in service.get("secrets", []))


DMARC = (CHECKOUT / "docs/dmarc.md").read_text()
SPF = (CHECKOUT / "docs/spf.md").read_text()
AUTHOR = "author.example"
MAIL_FROM = Result("mailfrom", f"bounces.{AUTHOR}", "pass", "sender SPF authorized")
FOLLOW = Site("mail.example.com", frozenset({"example.com"}))
MARK = Site("mail.example.com", frozenset({"example.com"}), dmarc="mark")


def block(name: str) -> str:
    """What stands in docs/dmarc.md between comments of this name."""
    (found,) = re.findall(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", DMARC, flags=re.DOTALL)
    return found


def rows(name: str) -> list[list[str]]:
    """The cells of a table."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in block(name).splitlines()[2:]]


def published(record: str) -> dmarc.Published:
    found = dmarc.parse(AUTHOR, f"v=DMARC1; {record}")
    return dmarc.Published(found, found.p)


def facts(policy: dmarc.Published | None, result: str) -> Facts:
    """Of a message whose SPF and DKIM say nothing."""
    doubt = Doubt(f"DMARC record of {AUTHOR}") if result == "temperror" else None
    silent = Spf(Result("mailfrom", AUTHOR, "none", ""), None)
    return Facts("192.0.2.80", AUTHOR, AUTHOR, silent, (), policy, result, doubt=doubt)


@pytest.mark.parametrize("row", rows("decisions"), ids=lambda row: f"{row[0]}: {row[1]}")
def test_decisions_of_dmarc(row: list[str]):
    """The table says what is done; with "mark" it is nothing."""
    said, result, reply, disposition = (cell.replace("`", "") for cell in row)
    records = ["p=none", "p=quarantine", "p=reject"] if said == "any" else re.findall(r"^p=.*", said) or [None]
    for record in records:
        known = facts(record and published(record), result)
        outcome = decide(known, FOLLOW)
        assert (outcome.reply or "250").startswith(reply.partition(",")[0])
        assert (outcome.action == "quarantine") == reply.endswith("with X-Mailstack-Quarantine")
        assert disposition == outcome.disposition
        assert decide(known, MARK).action == "accept"


def test_replies_of_dmarc():
    """The replies stand there word for word."""
    refused, waiting = decide(facts(published("p=reject"), "fail"), FOLLOW), decide(facts(None, "temperror"), FOLLOW)
    with pytest.raises(AmbiguousError) as ambiguous:
        author_domain(milter.Fields([milter.Field(b"From", b" a@author.example")] * 2))
    forged = decide(facts(None, "none")._replace(author="example.com"), FOLLOW)
    over = given_up(waiting, replace(FOLLOW, dns_action="reject"))
    assert f"`{over.reply}`" in DMARC
    assert f"\n```\n{refused.reply}\n{waiting.reply}\n550 5.7.1 {ambiguous.value}\n```\n" in DMARC
    assert f"`550 5.7.1 {forged.reason}`" in DMARC


LOCAL = {
    "MAIL FROM": {"sender": "example.com"},
    "From alone": {"author": "example.com"},
    "the name beside the address in From": {},
    "To, and the sender is empty: somebody's bounce": {"sender": None},
}
OURS = signatures.Signature(0, "example.com", "default", result="pass")
EVIDENCE = {
    "nothing passes": {},
    "SPF or DKIM passes for another domain alone": {"signatures": (OURS._replace(domain="list.example"),)},
    "SPF or DKIM passes for it": {"signatures": (OURS,)},
    "a DNS lookup fails that could show it": {"doubts": (Doubt("DKIM key", "example.com"),)},
    "any": {},
}


@pytest.mark.parametrize("row", rows("local"), ids=lambda row: f"{row[0]}, {row[1]}")
def test_local_domains_of_dmarc(row: list[str]):
    """The table says what is done with mail that uses a domain of ours."""
    where, evidence, aligned, _, off = row
    known = facts(None, "none")._replace(**LOCAL[where], **EVIDENCE[evidence])
    for local_sender in ("discard", "reject"):
        outcome = decide(known, replace(FOLLOW, local_sender=local_sender))
        # A setting changes what happens to a forged envelope alone.
        action = "discard" if outcome.action == "reject" and where == "MAIL FROM" else outcome.action
        said = {"discard": "the action", "accept": "goes on", "quarantine": "quarantine"}.get(action, outcome.reply)
        assert said.startswith(aligned)
    assert off == "goes on"
    assert decide(known, replace(FOLLOW, local_sender=None)).action == "accept"


def sample() -> tuple[milter.Message, Facts, Outcome]:
    """The message of the examples."""
    good = signatures.Signature(
        0, AUTHOR, "s2026", "rsa-sha256", "Tq2mPz0LxW9a", result="pass", key="2048-bit key; secure"
    )
    broken = signatures.Signature(
        1, "list.example", "old", "rsa-sha256", "aX9kW3vYb1cD", result="fail", key="1024-bit key"
    )
    known = facts(published(f"p=reject; rua=mailto:dmarc@{AUTHOR}"), "pass")._replace(
        sender=MAIL_FROM.domain,
        spf=Spf(MAIL_FROM, MAIL_FROM),
        signatures=(good, broken),
        spf_aligned=True,
        dkim_aligned=True,
    )
    message = milter.Message(
        "192.0.2.80", b"mail.author.example", f"<news@{MAIL_FROM.domain}>".encode(), "4bFkXq1Zz9z1"
    )
    message.fields = milter.Fields(
        [
            milter.Field(b"From", b" Author <someone@author.example>"),
            milter.Field(b"Message-ID", b" <1@author.example>"),
        ]
    )
    return message, known, decide(known, FOLLOW)


def test_authentication_results_of_dmarc():
    """The example is what is written."""
    _, known, outcome = sample()
    written = authres.value(FOLLOW.hostname, dmarcd._results(known, outcome)).decode()
    assert block("field") == f"```\n{authres.NAME.decode()}:{written}\n```"


def test_verdict_line_of_dmarc(capsys: pytest.CaptureFixture[str]):
    """The example is what is logged, apart from the time, and each of its keys is explained."""
    message, known, outcome = sample()
    outside = dmarcd.Outside(
        FOLLOW,
        "secret",
        dmarcd.SpfResults(Path("results"), Path("results.sock")),
        Lookups(),
        deferrals=Deferrals(Path("deferrals"), 0),
        counts=Counts(Path("counts"), print),
    )

    async def record():
        outside._record(message, known, outcome)

    asyncio.run(record())
    logged = json.loads(capsys.readouterr().out)
    shown = json.loads(block("verdict").removeprefix("```json\n").removesuffix("```"))
    assert shown | {"time": logged["time"]} == logged
    explained = re.findall(
        r"^\| (`[a-z_]+`(?:, `[a-z_]+`)*) \|",
        DMARC.partition("<!-- /verdict -->")[2].partition("\n## ")[0],
        flags=re.MULTILINE,
    )
    assert [name for cell in explained for name in re.findall(r"`(\w+)`", cell)] == list(logged)


def test_lines_of_policyd_spf():
    """The lines shown are what is logged about such messages."""
    shown = re.search(r"<!-- decision -->\n```text\n(.*?)```", SPF, re.DOTALL)[1].splitlines()
    zone = {
        "author.example": [{"TXT": "v=spf1 ip4:192.0.2.80 -all"}],
        "broken.example": [{"TXT": "v=spf1 nonsense:term -all"}],
    }
    policy = Policy("mail.example.com", {}, skip_networks=(ipaddress.ip_network("198.51.100.7/32"),))

    async def logged(line: str) -> str:
        queue_id, client, domain = re.search(r"policyd-spf: (\w+): client=(\S+) .* domain='(.*?)'", line).groups()
        message = Message(queue_id, client, "mx.author.example", f"news@{domain or 'author.example'}", "")
        async with Server.of(zone).lookups() as lookups:
            evaluator = Evaluator(lookups)
            judgement = policy.known(message, evaluator) or await policy.judge(message, evaluator)
        return f"policyd-spf: {policyd.decision(message, judgement, policy.action(judgement, message))}"

    assert [asyncio.run(logged(line)) for line in shown] == shown


def test_limits_of_dmarc():
    """Every number is the code's."""
    resolver = services(stack())["resolver"]["etc/unbound/mailstack.conf"].content.decode()
    (buffer,) = re.findall(r"msg-buffer-size: (\d+)", resolver)
    expected = {
        "a verdict": f"{dmarcd.MAX_SECONDS:.0f} seconds",
        "DNS for a message": f"{dmarcd.DNS_SECONDS:.0f} seconds, twice",
        "names asked for a record": f"{dmarc.MAX_LABELS + 1}",
        "a DMARC record": f"{dmarc.MAX_RECORD} octets",
        "records at one name": f"{wire.MAX_RECORDS - 1}",
        "the header": f"{milter.MAX_HEADER_OCTETS >> 20} MiB, where each field counts {milter._FIELD_OCTETS} octets more than it has",
        "a header field": f"{milter.MAX_FIELD_OCTETS} octets: beside milters Postfix may cut a longer one",
        "signatures that are verified here": f"{dmarcd._MAX_LOOKS} of a message",
        "signatures of a message": f"{signatures.MAX_SIGNATURES}, from the lowest up",
        "a signature field": f"{verification.MAX_FIELD} octets",
        "a key record": f"{verification.MAX_KEY_RECORD} octets",
        "an answer of DNS": f"{buffer} octets",
        "an RSA key": f"{verification.MIN_KEY_BITS} to {verification.MAX_KEY_BITS} bits, an exponent of 32 bits",
        "clocks of signer and verifier": f"{verification.CLOCK_SKEW // 60} minutes apart",
        "the record, where SPF or DKIM passes for the author's own domain": f"{dmarcd.DECIDED_SECONDS:.0f} second",
        "signatures whose results are written down": f"{dmarcd._MAX_RESULTS} of a message",
        "answers of DNS that are kept": f"{lookup.CACHE_OCTETS >> 20} MiB, for their TTL, {lookup.MAX_TTL // 86400} day at most",
        "a text in the verdict line": f"{len(dmarcd._text(b'a' * 10_000))} characters",
        "a worker that works on without an answer": f"{supervisor._MAX_PROCESSOR_SECONDS:.0f} seconds of processor time",
        "`docker compose stop`": f"{dmarcd.GRACE_SECONDS:.0f} seconds for messages in hand",
    }
    assert {what: limit for what, limit, _ in rows("limits")} == expected
