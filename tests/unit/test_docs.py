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

from mailstack.render.compose import site
from mailstack.render.site import files
from mailstack_auth.dkim import keys, signatures, verification
from mailstack_auth.dmarc import alignment, collecting, discovery, inbound, report
from mailstack_auth.dmarc import service as dmarcd
from mailstack_auth.dmarc.evidence import Evidence, TempFailure
from mailstack_auth.dmarc.verdict import Outcome, decide, given_up
from mailstack_auth.dns import lookup, wire
from mailstack_auth.dns.lookup import Lookups
from mailstack_auth.header import authres
from mailstack_auth.header.author import AmbiguousError, author_domain
from mailstack_auth.header.fields import Field, Fields
from mailstack_auth.milter import message as milter
from mailstack_auth.milter import session
from mailstack_auth.runtime import supervisor
from mailstack_auth.runtime.counts import Counts
from mailstack_auth.runtime.deferrals import Deferrals
from mailstack_auth.site import Site
from mailstack_auth.spf import service as policyd
from mailstack_auth.spf.evaluation import Evaluation, Evaluator, Result
from mailstack_auth.spf.judgement import Judgement
from mailstack_auth.spf.policy import Message, Policy
from mailstack_auth.spf.results import SpfResults
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
        files(stack())["postfix"][f"etc/postfix/{name}"].content.decode() for name in ("main.cf", "master.cf")
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


def published(record: str) -> discovery.Published:
    found = discovery.parse(AUTHOR, f"v=DMARC1; {record}")
    return discovery.Published(found, found.p)


def evidence_of(policy: discovery.Published | None, result: str) -> Evidence:
    """Of a message whose SPF and DKIM say nothing."""
    failure = TempFailure(f"the DMARC record of {AUTHOR}") if result == "temperror" else None
    silent = Judgement(Evaluation(None, Result("mailfrom", AUTHOR, "none", "")))
    return Evidence("192.0.2.80", AUTHOR, AUTHOR, silent, (), policy, result, failure=failure)


@pytest.mark.parametrize("row", rows("decisions"), ids=lambda row: f"{row[0]}: {row[1]}")
def test_decisions_of_dmarc(row: list[str]):
    """The table says what is done; with "mark" it is nothing."""
    said, result, reply, disposition = (cell.replace("`", "") for cell in row)
    records = ["p=none", "p=quarantine", "p=reject"] if said == "any" else re.findall(r"^p=.*", said) or [None]
    for record in records:
        known = evidence_of(record and published(record), result)
        outcome = decide(known, FOLLOW)
        assert (outcome.reply or "250").startswith(reply.partition(",")[0])
        assert (outcome.action == "quarantine") == reply.endswith("with X-Mailstack-Quarantine")
        assert disposition == outcome.disposition
        assert decide(known, MARK).action == "accept"


def test_replies_of_dmarc():
    """The replies stand there word for word."""
    refused, waiting = (
        decide(evidence_of(published("p=reject"), "fail"), FOLLOW),
        decide(evidence_of(None, "temperror"), FOLLOW),
    )
    with pytest.raises(AmbiguousError) as ambiguous:
        author_domain(Fields([Field(b"From", b" a@author.example")] * 2))
    forged = decide(evidence_of(None, "none")._replace(author="example.com"), FOLLOW)
    over = given_up(waiting, replace(FOLLOW, dns_action="reject"))
    assert f"`{over.reply}`" in DMARC
    assert f"\n```\n{refused.reply}\n{waiting.reply}\n550 5.7.1 {ambiguous.value}\n```\n" in DMARC
    assert f"`550 5.7.1 {forged.reason}`" in DMARC


LOCAL = {
    "MAIL FROM": {"sender": "example.com"},
    "From only": {"author": "example.com"},
    "the display name in From": {},
    "To, with an empty envelope sender (a bounce)": {"sender": None},
}
OURS = signatures.Signature(0, "example.com", "default", result="pass")
EVIDENCE = {
    "nothing passes": {},
    "SPF or DKIM passes for other domains only": {"signatures": (OURS._replace(domain="list.example"),)},
    "SPF or DKIM passes for our domain": {"signatures": (OURS,)},
    "a DNS lookup fails that could show a pass": {"failures": (TempFailure("DKIM key", "example.com"),)},
    "any": {},
}


@pytest.mark.parametrize("row", rows("local"), ids=lambda row: f"{row[0]}, {row[1]}")
def test_local_domains_of_dmarc(row: list[str]):
    """The table says what is done with mail that uses a domain of ours."""
    where, evidence, aligned, _, off = row
    known = evidence_of(None, "none")._replace(**LOCAL[where], **EVIDENCE[evidence])
    for local_sender in ("discard", "reject"):
        outcome = decide(known, replace(FOLLOW, local_sender=local_sender))
        # A setting changes what happens to a forged envelope alone.
        action = "discard" if outcome.action == "reject" and where == "MAIL FROM" else outcome.action
        said = {"discard": "the action", "accept": "continues", "quarantine": "quarantine"}.get(action, outcome.reply)
        assert said.startswith(aligned)
    assert off == "continues"
    assert decide(known, replace(FOLLOW, local_sender=None)).action == "accept"


def sample() -> tuple[milter.Message, Evidence, Outcome]:
    """The message of the examples."""
    good = signatures.Signature(
        0, AUTHOR, "s2026", "rsa-sha256", "Tq2mPz0LxW9a", result="pass", key="2048-bit key; secure"
    )
    broken = signatures.Signature(
        1, "list.example", "old", "rsa-sha256", "aX9kW3vYb1cD", result="fail", key="1024-bit key"
    )
    known = evidence_of(published(f"p=reject; rua=mailto:dmarc@{AUTHOR}"), "pass")._replace(
        sender=MAIL_FROM.domain,
        spf=Judgement(Evaluation(None, MAIL_FROM)),
        signatures=(good, broken),
        spf_aligned=True,
        dkim_aligned=True,
    )
    message = milter.Message(
        "192.0.2.80", b"mail.author.example", f"<news@{MAIL_FROM.domain}>".encode(), "4bFkXq1Zz9z1"
    )
    message.recipients = [b"<user@example.com>"]
    message.fields = Fields(
        [
            Field(b"From", b" Author <someone@author.example>"),
            Field(b"Message-ID", b" <1@author.example>"),
        ]
    )
    return message, known, decide(known, FOLLOW)


def test_authentication_results_of_dmarc():
    """The example is what is written."""
    _, known, outcome = sample()
    written = authres.value(FOLLOW.hostname, report.results(known, outcome)).decode()
    assert block("field") == f"```\n{authres.NAME.decode()}:{written}\n```"


def test_verdict_line_of_dmarc(capsys: pytest.CaptureFixture[str]):
    """The example is what is logged, apart from the time, and each of its keys is explained."""
    message, known, outcome = sample()
    outside = inbound.Inbound(
        FOLLOW,
        "secret",
        SpfResults(Path("results"), Path("results.sock")),
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
    resolver = files(stack())["resolver"]["etc/unbound/mailstack.conf"].content.decode()
    (buffer,) = re.findall(r"msg-buffer-size: (\d+)", resolver)
    expected = {
        "a verdict": f"{inbound.MAX_SECONDS:.0f} seconds",
        "DNS for a message": f"{alignment.DNS_SECONDS:.0f} seconds, twice",
        "names looked up for a record": f"{discovery.MAX_LABELS + 1}",
        "a DMARC record": f"{discovery.MAX_RECORD} octets",
        "records at one name": f"{wire.MAX_RECORDS - 1}",
        "the header": f"{milter.MAX_HEADER_OCTETS >> 20} MiB; each field counts {session._FIELD_OCTETS} octets extra",
        "a header field": f"{milter.MAX_FIELD_OCTETS} octets; with milters, Postfix may cut a longer one",
        "signatures that dmarc verifies": f"{collecting.MAX_LOOKS} for each message",
        "signatures of a message": f"{signatures.MAX_SIGNATURES}, counted from the bottom",
        "a signature field": f"{verification.MAX_FIELD} octets",
        "a key record": f"{keys.MAX_RECORD} octets",
        "a DNS answer": f"{buffer} octets",
        "an RSA key": f"{keys.MIN_KEY_BITS} to {keys.MAX_KEY_BITS} bits, an exponent of 32 bits",
        "clocks of signer and verifier": f"{verification.CLOCK_SKEW // 60} minutes apart",
        "the record lookup, if SPF or DKIM passes for the author's own domain": f"{alignment.DECIDED_SECONDS:.0f} second",
        "signatures in the header field and the verdict line": f"{report.MAX_RESULTS} for each message",
        "cached DNS answers": f"{lookup.CACHE_OCTETS >> 20} MiB; for their TTL, {lookup.MAX_TTL // 86400} day at most",
        "a text in the verdict line": f"{len(report.text(b'a' * 10_000))} characters",
        "a worker that computes without a reply": f"{supervisor._MAX_PROCESSOR_SECONDS:.0f} seconds of processor time",
        "`docker compose stop`": f"{dmarcd.GRACE_SECONDS:.0f} seconds for open messages",
    }
    assert {what: limit for what, limit, _ in rows("limits")} == expected
