"""mailstack dns check and opendkim-testkey, each asked about the same key records at the same servers."""

import base64
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from integration.dns_servers import Published, Servers, running
from mailstack.dns import ask
from mailstack.dns.ask import Look
from mailstack.dns.check import texts
from mailstack.dns.check.wanted import Evidence, Wanted
from mailstack.dns.findings import Finding, Report, Row
from mailstack.engine import connection, images
from mailstack.render.contexts import image_name
from mailstack.stack.packages import Packages
from place import BASE_IMAGE, NAME
from unit.dns_mistakes import KEY, MISTAKES, SELECTOR, P, private_key
from unit.dns_site import NS1, NS3, SPELLINGS
from unit.dns_world import RESOLVER, Value

BARE = base64.b64encode(private_key(0).public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)).decode()


def _is_of_key(changes: Mapping[str, object]) -> bool:
    return any(name.startswith(SELECTOR) for name in changes)


# All but the one that Knot does not serve.
_ROWS = {name: row[0] for name, row in MISTAKES.items() if _is_of_key(row[0]) and name != "CNAME beside TXT"}
_ROWS |= {name: changes for name, changes in SPELLINGS.items() if _is_of_key(changes)}
_OWN = {
    "as printed": KEY,
    "v=DKIM2": KEY.replace("DKIM1", "DKIM2"),
    "v=dkim1": KEY.replace("DKIM1", "dkim1"),
    "k=RSA": KEY.replace("k=rsa", "k=RSA"),
    "k=dsa": KEY.replace("k=rsa", "k=dsa"),
    "h=SHA256": KEY.replace("sha256", "SHA256"),
    "h=sha1:sha256": KEY.replace("sha256", "sha1 : sha256"),
    "h= is empty": KEY.replace("sha256", ""),
    "s=*": f"{KEY}; s=*",
    "s=tlsrpt:email": f"{KEY}; s=tlsrpt:email",
    "s=EMAIL": f"{KEY}; s=EMAIL",
    "t=s": f"{KEY}; t=s",
    "t=y:s": f"{KEY}; t=y:s",
    "g=*, of RFC 4871": f"{KEY}; g=*",
    "g=user, of RFC 4871": f"{KEY}; g=user",
    "a tag that nobody knows": f"{KEY}; x-note=2026",
    "a tag that nobody knows twice": f"{KEY}; x=1; x=2",
    "a word that is no tag": f"{KEY}; note",
    "blanks around =": KEY.replace("=rsa", " = rsa").replace("p=", "p = "),
    "base64 without its end": KEY[:-2],
    "text behind the key": f"{KEY} end",
    "a key without SubjectPublicKeyInfo": KEY.replace(P, BARE),
    "no p=": "v=DKIM1; k=rsa",
    "an empty string": "",
}
# Keys of other lengths, each with its own record.
_LENGTHS = {f"a key of {bits} bits": bits for bits in (768, 1024, 4096)}
# What is published for a site of example.com.
CASES: Mapping[str, Mapping[str, Sequence[Value]]] = {
    **_ROWS,
    **{name: {f"{SELECTOR} TXT": [value]} for name, value in _OWN.items()},
    "the same key in two records": {f"{SELECTOR} TXT": [KEY, f"{KEY}; n=2026"]},
    **{name: {} for name in _LENGTHS},
}
# What opendkim-testkey says, and the check's code.
SAID = {
    "zone name twice: DKIM": ("record not found", "zone-twice"),
    "selector missing": ("record not found", "selector-missing"),
    "_domainkey missing": ("record not found", "domainkey-missing"),
    "selector and _domainkey swapped": ("record not found", "labels-swapped"),
    "underscore missing: DKIM": ("record not found", "underscore-missing"),
    "DKIM at the domain itself": ("record not found", "at-the-domain"),
    "no DKIM record": ("record not found", "missing"),
    "an SPF record at the selector (a wildcard)": ("invalid key version", "no-key"),
    "another key": ("keys do not match", "another-key"),
    "backslashes: DKIM": ("invalid key version", "backslashes"),
    "cut at the first semicolon: DKIM": ("key missing", "cut-at-semicolon"),
    "cut after 255": ("keys do not match", "cut-after-255"),
    "cut elsewhere": ("keys do not match", "cut"),
    "one value in two records": ("multiple DNS replies", "parted"),
    "quotes: DKIM": ("syntax error in key data", "quotes"),
    "brackets": ("syntax error in key data", "brackets"),
    "a line of a zone file": ("syntax error in key data", "zone-line"),
    "base64 in lower case": ("keys do not match", "base64-case"),
    "h=rsa-sha256": ("unknown hash 'rsa-sha256'", "h-algorithm"),
    "h=sha1": ("key OK", "h-hash"),
    "k=ed25519 with an RSA key": ("key OK", "k-type"),
    "s=tlsrpt": ("key type mismatch", "s-service"),
    "test flag": ("key OK", "test-flag"),
    "revoked": ("Revoked key", "revoked"),
    "p= twice": ("key OK", "malformed"),
    "two keys at one selector": ("multiple DNS replies", "several-records"),
    "a CNAME that leads nowhere": ("record not found", "dangling-cname"),
    "a CNAME to another key": ("keys do not match", "another-key"),
    "blanks in p=": ("key OK", "fine"),
    "no blanks": ("key OK", "fine"),
    "a semicolon at the end": ("key OK", "fine"),
    "no v=, no h=, no k=": ("key OK", "fine"),
    "another order of tags": ("key OK", "fine"),
    "other strings": ("key OK", "fine"),
    "a note and a flag": ("key OK", "fine"),
    "DKIM by a CNAME": ("key OK", "fine"),
    "as printed": ("key OK", "fine"),
    "v=DKIM2": ("invalid key version", "version"),
    "v=dkim1": ("invalid key version", "version"),
    "v= is not the first tag": ("key OK", "version-not-first"),
    "k=RSA": ("key OK", "fine"),
    "k=dsa": ("unknown key type 'dsa'", "k-type"),
    "h=SHA256": ("key OK", "unusable"),
    "h=sha1:sha256": ("key OK", "fine"),
    "h= is empty": ("unknown hash", "h-hash"),
    "s=*": ("key OK", "fine"),
    "s=tlsrpt:email": ("key OK", "fine"),
    "s=EMAIL": ("key OK", "unusable"),
    "t=s": ("key OK", "fine"),
    "t=y:s": ("key OK", "test-flag"),
    "g=*, of RFC 4871": ("key OK", "fine"),
    "g=user, of RFC 4871": ("key OK", "fine"),
    "a tag that nobody knows": ("key OK", "fine"),
    "a tag that nobody knows twice": ("key OK", "malformed"),
    "a word that is no tag": ("tag without value at end of key data", "malformed"),
    "blanks around =": ("key OK", "fine"),
    "a sign that is not base64 in p=": ("key OK", "not-base64"),
    "base64 without its end": ("keys do not match", "cut"),
    "text behind the key": ("keys do not match", "not-base64"),
    "a key without SubjectPublicKeyInfo": ("keys do not match", "another-key"),
    "no p=": ("key missing", "no-key"),
    "an empty string": ("empty key record", "malformed"),
    "a key of 1024 bits": ("key OK", "fine"),
    "a key of 4096 bits": ("key OK", "fine"),
    "the same key in two records": ("multiple DNS replies", "several-records"),
    "a key of 768 bits": ("key OK", "unusable"),
}
# opendkim-testkey calls these keys good, and verifiers that do as the RFC says refuse them.
UNLIKE = {
    "h=sha1": "RFC 6376 section 6.1.2 step 6: h= lacks the signature's hash; opendkim-testkey looks at no signature",
    "k=ed25519 with an RSA key": "RFC 6376 section 6.1.2 step 8: the type is not that of the signature's algorithm",
    "p= twice": "RFC 6376 section 3.2: a tag that is there twice makes the whole list invalid",
    "a tag that nobody knows twice": "RFC 6376 section 3.2: it does so with any name",
    "h=SHA256": "RFC 6376 section 3.2: values are case-sensitive where nothing else is said",
    "s=EMAIL": "RFC 6376 section 3.2: the same",
    "a sign that is not base64 in p=": "RFC 6376 section 2.10 with RFC 4648 section 3.3: it is no base64",
    "a key of 768 bits": "RFC 8301 section 3.2: verifiers refuse RSA keys of less than 1024 bits",
}
# Each case has a domain, and a zone, of its own.
DOMAINS = {name: f"case{number}.example" for number, name in enumerate(CASES)}
ZONES = {
    **{domain: {"ns1.example.net": NS1} for domain in DOMAINS.values()},
    "example.net": {"ns1.example.net": NS1},
    "partner.example": {"ns1.partner.example": NS3},
}


def _moved(value: Value, domain: str) -> Value:
    """As it would be published for this domain."""
    if isinstance(value, str):
        return value.replace("example.com", domain)
    return [one.replace("example.com", domain) for one in value]


class Key(NamedTuple):
    """A private key in PEM, and its record."""

    pem: bytes
    record: str


@pytest.fixture(scope="module")
def keys() -> Mapping[str, Key]:
    """The key with which each case's site signs."""
    usual = private_key(0).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return {name: _key_of(_LENGTHS[name]) if name in _LENGTHS else Key(usual, KEY) for name in CASES}


def _key_of(bits: int) -> Key:
    """By openssl, since the cryptography package makes no short ones."""
    pem = subprocess.check_output(["openssl", "genrsa", str(bits)], stderr=subprocess.DEVNULL)
    public = subprocess.check_output(["openssl", "pkey", "-pubout", "-outform", "DER"], input=pem)
    return Key(pem, f"v=DKIM1; h=sha256; k=rsa; p={base64.b64encode(public).decode()}")


@pytest.fixture(scope="module")
def world(
    engine: None, keys: Mapping[str, Key], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Servers, Published]]:
    with running(tmp_path_factory.mktemp("dns"), ZONES) as servers:
        found = Published(servers, ZONES)
        for name, domain in DOMAINS.items():
            for row, values in (CASES[name] or {f"{SELECTOR} TXT": [keys[name].record]}).items():
                owner, kind = row.replace("example.com", domain).split(" ")
                found.publish(owner, kind, *(_moved(one, domain) for one in values))
        yield servers, found


@pytest.fixture(scope="module")
def by_the_check(world: tuple[Servers, Published], keys: Mapping[str, Key]) -> Mapping[str, Finding]:
    """The worst finding about each case's record."""

    async def work(look: Look) -> list[list[Finding]]:
        found = []
        for name, domain in DOMAINS.items():
            record = keys[name].record
            wanted = Wanted(Row(SELECTOR.replace("example.com", domain), "TXT", record), "dkim", record, domain)
            # One after the other, so that no question waits for the answers to all others.
            found.append(await texts.check(look, wanted, Evidence({}, ()), {"dkim": ()}))
        return found

    with world[1].served() as port:
        found = ask.look(work, [RESOLVER], port, seconds=100)
    return {name: Report(tuple(findings)).findings[0] for name, findings in zip(CASES, found, strict=True)}


_CONFIGURATION = """\
server:
    do-not-query-localhost: no
    do-ip6: no
forward-zone:
    name: "."
    forward-addr: {resolver}@{port}
"""


class Verdict(NamedTuple):
    """The exit status of opendkim-testkey, and its last line without its name."""

    status: int
    words: str


@pytest.fixture(scope="module")
def by_opendkim(
    world: tuple[Servers, Published], keys: Mapping[str, Key], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Verdict]:
    """What opendkim-testkey says of each case's record and private key."""
    servers, published = world
    directory = tmp_path_factory.mktemp("opendkim") / "site"
    directory.mkdir()
    # The one place where OpenDKIM takes a resolver's port.
    (directory / "unbound.conf").write_text(_CONFIGURATION.format(resolver=RESOLVER, port=servers.port))
    (directory / "opendkim.conf").write_text("ResolverConfiguration /site/unbound.conf\n")
    commands = []
    for name, domain in DOMAINS.items():
        (directory / f"{domain}.pem").write_bytes(keys[name].pem)
        tool = f"opendkim-testkey -x /site/opendkim.conf -d {domain} -s default -k /site/{domain}.pem -vvv"
        commands.append(f"said=$({tool} 2>&1); printf '%s %s' $? \"$said\" | tr '\\n' '\\t'; echo")
    with published.served():
        lines = _run(directory, "\n".join(commands)).splitlines()
    found = [(one.partition(" ")[0], one.rstrip("\t").rpartition("opendkim-testkey: ")[2]) for one in lines]
    return {name: Verdict(int(status), words) for name, (status, words) in zip(CASES, found, strict=True)}


def _run(directory: Path, script: str) -> str:
    """What a shell in OpenDKIM's container prints."""
    packages = Packages(BASE_IMAGE)
    image = image_name("opendkim", packages)
    client = connection.connect()
    images.build_missing(client, {"opendkim": image}, packages)
    container = client.containers.create(
        image,
        ["sh", "-c", script],
        entrypoint=["env"],
        name=f"{NAME}-opendkim-testkey",
        network_mode="host",
        cap_drop=["ALL"],
        volumes={str(directory): {"bind": "/site", "mode": "ro"}},
    )
    try:
        container.start()
        assert container.wait()["StatusCode"] == 0
        return container.logs().decode()
    finally:
        container.remove(force=True, v=True)


def test_all_rows_are_here() -> None:
    """A new mistake in a key's record comes with what opendkim-testkey says of it."""
    assert SAID.keys() == CASES.keys()
    assert UNLIKE.keys() <= CASES.keys()


@pytest.mark.parametrize("name", CASES)
def test_keys(by_the_check: Mapping[str, Finding], by_opendkim: Mapping[str, Verdict], name: str) -> None:
    """Both find the same keys good, or it is said why not."""
    words, code = SAID[name]
    assert words in by_opendkim[name].words
    assert by_opendkim[name].status == {"key OK": 0, "keys do not match": 65}.get(words, 69)
    assert by_the_check[name].code == code
    good = by_the_check[name].level != "fault"
    assert good == ((words == "key OK") and name not in UNLIKE)
