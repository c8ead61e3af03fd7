"""Postfix's image takes certificates as others lay them down, and never one that does not work."""

import base64
import json
import os
import shutil
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certificates import Authority, Pair, key, private
from mailstack.engine import connection, execution, images
from mailstack.render.contexts import image_name
from mailstack.stack.packages import Packages
from mailstack.world.containers import wait_for

PACKAGES = Packages("debian:trixie-slim")
HOST = "mail.a.example"
DOMAINS = "a.example ours\nb.example ours\nc.example ours"
TAKEN = "/var/lib/certificates"


class Taker:
    """A container of Postfix's image in which nothing runs, and the directory that it has as tls/."""

    def __init__(self, client, directory: Path) -> None:
        self.directory = directory
        self._client = client
        self._container = client.containers.run(
            image_name("postfix", PACKAGES),
            [
                "sh",
                "-c",
                f"postconf myhostname={HOST} && echo '{DOMAINS}' > /etc/postfix/domains && exec sleep infinity",
            ],
            entrypoint=[],
            volumes={str(directory): {"bind": "/etc/mailstack/tls", "mode": "ro"}},
            network_mode="none",
            init=True,
            detach=True,
        )

    def run(self, *command: str) -> bytes:
        return execution.run(self._client, str(self._container.id), command)

    def empty(self) -> None:
        """As at a first start."""
        for one in self.directory.iterdir():
            shutil.rmtree(one) if one.is_dir() and not one.is_symlink() else one.unlink()
        self.run("sh", "-c", f"rm -rf {TAKEN}/* /dev/shm/*")

    def put(self, files: dict[str, bytes]) -> None:
        for name, content in files.items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o600)

    def take(self) -> dict[str, list[list[str]]]:
        """One look at the directory; what it says to status by the first word of the line."""
        said = self.run("sh", "-c", "take-certificates now 2>&1").decode()
        # Nothing of Perl's or OpenSSL's own.
        assert {line.partition(":")[0] for line in said.splitlines()} == {"certificates"}
        return self.state()

    def state(self) -> dict[str, list[list[str]]]:
        found: dict[str, list[list[str]]] = {"served": [], "fault": [], "remark": []}
        for line in self.run("cat", f"{TAKEN}/state").decode().splitlines():
            first, *rest = line.split("\t")
            found[first].append(rest)
        return found

    def serial(self, name: str = "default.pem") -> int:
        """The certificate that is served, which Python's TLS accepts with its key."""
        pem = self.run("cat", f"{TAKEN}/current/{name}")
        path = self.directory.parent / "served.pem"
        path.write_bytes(pem)
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path)
        return x509.load_pem_x509_certificates(pem)[0].serial_number

    def names(self) -> dict[str, int]:
        """What Postfix's table has: name → the certificate for it."""
        rows = [line.split() for line in self.run("cat", f"{TAKEN}/current/names").decode().splitlines()]
        return {name: self.serial(path.rpartition("/")[2]) for name, path in rows}

    def remove(self) -> None:
        self._container.remove(force=True)


@pytest.fixture(scope="module")
def container(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Taker]:
    client = connection.connect()
    images.build_missing(client, {"postfix": image_name("postfix", PACKAGES)}, PACKAGES)
    directory = tmp_path_factory.mktemp("certificates") / "tls"
    directory.mkdir()
    taker = Taker(client, directory)
    yield taker
    taker.remove()


@pytest.fixture
def taker(container: Taker) -> Taker:
    container.empty()
    return container


def certbot(taker: Taker, pair: Pair, number: int = 1) -> None:
    """certbot: archive/NAME/*N.pem, to which live/NAME/*.pem are links."""
    parts = {"cert": pair.certificate, "chain": pair.above, "fullchain": pair.chain, "privkey": pair.key}
    taker.put({f"archive/{HOST}/{part}{number}.pem": content for part, content in parts.items()})
    live = taker.directory / "live" / HOST
    live.mkdir(parents=True, exist_ok=True)
    for part in parts:
        (live / "new").symlink_to(f"../../archive/{HOST}/{part}{number}.pem")
        (live / "new").replace(live / f"{part}.pem")


def lego(taker: Taker, pair: Pair) -> None:
    """lego: certificates/NAME.crt with the chain, .issuer.crt, .key, .json."""
    parts = {"crt": pair.chain, "issuer.crt": pair.above, "key": pair.key, "json": b'{"domain": "x"}'}
    taker.put({f"certificates/{HOST}.{part}": content for part, content in parts.items()})


def acme_sh(taker: Taker, pair: Pair) -> None:
    """acme.sh: NAME_ecc/ with the certificate, its chain, both, the key, and files of its own."""
    parts = {
        f"{HOST}.cer": pair.certificate,
        "ca.cer": pair.above,
        "fullchain.cer": pair.chain,
        f"{HOST}.key": pair.key,
    }
    parts |= {f"{HOST}.conf": b"Le_Domain='x'\n", f"{HOST}.csr.conf": b"[req]\n"}
    taker.put({f"{HOST}_ecc/{part}": content for part, content in parts.items()})


def traefik(taker: Taker, pair: Pair) -> None:
    """Traefik: acme.json with everything in base64, the account's key as well."""
    found = {"domain": {"main": HOST}, "certificate": _base64(pair.chain), "key": _base64(pair.key), "Store": "default"}
    account = {"Email": "postmaster@a.example", "PrivateKey": _base64(private(key())), "KeyType": "4096"}
    data = {
        "resolver": {"Account": account, "Certificates": [found]},
        "unused": {"Account": None, "Certificates": None},
    }
    taker.put({"acme.json": json.dumps(data, indent=2).encode()})


def kubernetes(taker: Taker, pair: Pair) -> None:
    """A secret as Kubernetes mounts it: links to ..data, which is a link to the version, exchanged at once."""
    version = f"..{pair.serial}"
    taker.put({f"{version}/tls.crt": pair.chain, f"{version}/tls.key": pair.key})
    new = taker.directory / "..new"
    new.symlink_to(version)
    new.replace(taker.directory / "..data")
    for name in ("tls.crt", "tls.key"):
        if not (taker.directory / name).is_symlink():
            (taker.directory / name).symlink_to(f"..data/{name}")


def one_file(taker: Taker, pair: Pair) -> None:
    """Key and chain in one file, in either order."""
    taker.put({f"{HOST} all.pem": pair.chain + pair.key})


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


LAYOUTS: list[Callable[[Taker, Pair], None]] = [certbot, lego, acme_sh, traefik, kubernetes, one_file]


@pytest.mark.parametrize("lay_down", LAYOUTS, ids=lambda one: one.__name__)
def test_layouts(lay_down: Callable[[Taker, Pair], None], taker: Taker, authority: Authority) -> None:
    """A certificate is found in whatever files there are, with its chain; and so is the one that renews it."""
    first, second = authority.issue(HOST, days=(-60, 30)), authority.issue(HOST)
    lay_down(taker, first)
    assert taker.take()["fault"] == []
    assert taker.serial() == first.serial
    assert len(x509.load_pem_x509_certificates(taker.run("cat", f"{TAKEN}/current/default.pem"))) == 2
    lay_down(taker, second)
    state = taker.take()
    assert (state["fault"], state["remark"]) == ([], [])
    assert taker.serial() == second.serial
    assert [(names, kind) for names, _, kind, _ in state["served"]] == [(HOST, "issued")]


def test_first_start(taker: Taker) -> None:
    """Without any, a self-signed one is made, which lasts; that it is one is said, and is no fault."""
    state = taker.take()
    assert state["fault"] == []
    assert "self-signed" in state["remark"][0][0]
    made = taker.serial()
    for _ in range(2):
        state = taker.take()
        assert (state["fault"], len(state["remark"]), taker.serial()) == ([], 1, made)


def test_names(taker: Taker, authority: Authority) -> None:
    """Each name has the newest certificate for it; a wildcard serves one label below, the host name's is the default."""
    wide, other = authority.issue("*.a.example", "a.example"), authority.issue("MX.B.example", days=(-2, 50))
    newer = authority.issue("mx.b.example", "mx.c.example", days=(-1, 50))
    taker.put(
        {"1.pem": wide.chain + wide.key, "x/2.pem": other.chain, "x/2.key": other.key, "3": newer.key + newer.chain}
    )
    assert taker.take()["fault"] == []
    assert taker.serial() == wide.serial
    assert taker.names() == {
        ".a.example": wide.serial,
        "a.example": wide.serial,
        "mx.b.example": newer.serial,
        "mx.c.example": newer.serial,
    }
    exact = authority.issue(HOST)
    taker.put({"4.pem": exact.chain + exact.key})
    taker.take()
    assert taker.names()[HOST] == exact.serial


def test_issued_before_self_signed(taker: Taker, authority: Authority) -> None:
    """A self-signed one that is newer does not take the place of one that an authority issued; alone, it is used."""
    own = authority.issue(HOST, signed=False)
    taker.put({"own.pem": own.chain + own.key})
    assert taker.take()["fault"] == []
    assert taker.serial() == own.serial
    issued = authority.issue(HOST, days=(-30, 30))
    taker.put({"issued.pem": issued.chain + issued.key})
    taker.take()
    assert taker.serial() == issued.serial


def _weak(authority: Authority) -> Pair:
    return authority.issue(HOST, own=rsa.generate_private_key(65537, 1024))  # noqa: S505


def _encrypted(authority: Authority) -> Pair:
    own = key()
    pair = authority.issue(HOST, own=own)
    return Pair(pair.certificate, pair.above, private(own, b"secret"))


BAD: dict[str, tuple[Callable[[Authority], Pair], str]] = {
    "expired": (lambda one: one.issue(HOST, days=(-0.5, -0.1)), "expired on"),
    "not valid yet": (lambda one: one.issue(HOST, days=(1, 90)), "is valid only from"),
    "key of another": (lambda one: Pair(one.issue(HOST).certificate, b"", private(key())), "has no private key"),
    "short key": (_weak, "key too weak"),
    "passphrase": (_encrypted, "passphrase"),
    "cut certificate": (lambda one: Pair(one.issue(HOST).chain[:-40], b"", private(key())), "cut off"),
    "cut key": (lambda one: Pair(one.issue(HOST).chain, b"", private(key())[:60]), "cut off"),
    "damaged": (lambda one: Pair(one.issue(HOST).chain.replace(b"M", b"N", 9), b"", private(key())), "cannot be read"),
    "empty": (lambda _: Pair(b"", b"", b""), "no valid certificate"),
    "of nobody": (lambda one: one.issue("mail.elsewhere.example"), "no valid certificate"),
    "rare curve": (lambda one: one.issue(HOST, own=ec.generate_private_key(ec.SECP256K1())), "few clients know"),
    "self-made, key of another": (
        lambda one: Pair(one.issue(HOST, signed=False).certificate, b"", private(key())),
        "has no private key",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_not_right_is_not_taken(kind: str, taker: Taker, authority: Authority) -> None:
    """The last certificate goes on, over a restart too, and status is told why; once mended, the new one is taken."""
    make, words = BAD[kind]
    good = authority.issue(HOST, days=(-2, 60))
    taker.put({"cert.pem": good.chain, "key.pem": good.key})
    taker.take()
    bad = make(authority)
    taker.put({"cert.pem": bad.chain, "key.pem": bad.key})
    for _ in range(2):
        faults = taker.take()["fault"]
        assert any(words in fault for (fault,) in faults), faults
        assert taker.serial() == good.serial
        assert taker.names()[HOST] == good.serial
    mended = authority.issue(HOST)
    taker.put({"cert.pem": mended.chain, "key.pem": mended.key})
    assert taker.take()["fault"] == []
    assert taker.serial() == mended.serial


def test_cut_anywhere(taker: Taker, authority: Authority) -> None:
    """A file that ends anywhere: what is served is a whole pair, the old one or the new one without its issuers."""
    good, new = authority.issue(HOST, days=(-2, 60)), authority.issue(HOST)
    taker.put({"cert.pem": good.chain, "key.pem": good.key})
    taker.take()
    whole = new.key + new.chain
    for at in range(0, len(whole), len(whole) // 25):
        taker.put({"cert.pem": whole[:at], "key.pem": b""})
        taker.take()
        assert taker.serial() in {good.serial, new.serial}


def test_what_else_lies_there(taker: Taker, authority: Authority) -> None:
    """Links to nothing and round in circles, binary and large files, names that steer a terminal: none stops the rest."""
    good = authority.issue(HOST)
    taker.put({"cert.pem": good.chain + good.key, "random": os.urandom(5000), "-----BEGIN": b"-----BEGIN X-----"})
    taker.put({"large.pem": good.chain * 1000, "a\x1b[31mb\nc": b"-----BEGIN CERTIFICATE-----\n", "README": b"Hello\n"})
    (taker.directory / "gone").symlink_to("/nowhere/at all")
    (taker.directory / "circle").symlink_to(".")
    os.mkfifo(taker.directory / "fifo")
    faults = "\n".join(fault for (fault,) in taker.take()["fault"])
    assert taker.serial() == good.serial
    assert "tls/gone is a link" in faults
    assert "\x1b" not in faults
    assert "a?[31mb?c is cut off" in faults


def test_an_archive(taker: Taker, authority: Authority) -> None:
    """Of thousands of files, as certbot's archive holds in the end, the newest are read."""
    old, good = authority.issue(HOST, days=(-90, -1)), authority.issue(HOST)
    taker.put({f"archive/{number}.pem": old.certificate for number in range(1500)})
    for one in (taker.directory / "archive").iterdir():
        os.utime(one, (1, 1))
    certbot(taker, good, 2000)
    assert taker.take()["fault"] == []
    assert taker.serial() == good.serial


def test_another_host(taker: Taker, authority: Authority) -> None:
    """A certificate of names that are not ours is no business of Postfix, be it right or not; nor is a whole CA's."""
    good, expired = authority.issue(HOST), authority.issue("www.elsewhere.example", days=(-9, -1))
    taker.put({"good.pem": good.chain + good.key, "web.pem": expired.chain + expired.key, "ca.pem": authority.root})
    taker.put({"alone.pem": authority.issue("www.elsewhere.example").chain})
    state = taker.take()
    assert (state["fault"], state["remark"]) == ([], [])
    assert set(taker.names()) == {HOST}


def test_one_key_for_two(taker: Taker, authority: Authority) -> None:
    """Two certificates with one key stay two."""
    own = key()
    first, second = authority.issue(HOST, own=own), authority.issue("mx.b.example", own=own)
    taker.put({"1.pem": first.chain + first.key, "2.pem": second.chain})
    assert taker.take()["fault"] == []
    assert taker.names() == {HOST: first.serial, "mx.b.example": second.serial}


def test_many_certificates_in_one_file(taker: Taker, authority: Authority) -> None:
    """A whole acme.json, the host's at its end."""
    good = authority.issue(HOST)
    others = [authority.issue(f"n{number}.elsewhere.example") for number in range(120)]
    found = [{"certificate": _base64(one.chain), "key": _base64(one.key)} for one in (*others, good)]
    taker.put({"acme.json": json.dumps({"resolver": {"Certificates": found}}).encode()})
    assert taker.take()["fault"] == []
    assert taker.serial() == good.serial


def test_no_time_is_lost(taker: Taker, authority: Authority) -> None:
    """Beginnings without an end, by the thousand."""
    good = authority.issue(HOST)
    taker.put({"good.pem": good.chain + good.key, "odd.pem": b"-----BEGIN A-----\n" * 100_000 + b"-----END B-----\n"})
    begun = time.monotonic()
    assert "odd.pem is cut off" in taker.take()["fault"][0][0]
    # With a search from each beginning to the end it takes minutes.
    assert time.monotonic() - begun < 20
    assert taker.serial() == good.serial


def test_several_at_once(taker: Taker, authority: Authority) -> None:
    """Each reads what it reads, and the set is whole."""
    pairs = [authority.issue(name) for name in (HOST, *(f"n{number}.b.example" for number in range(8)))]
    taker.put({f"{number}.pem": one.chain + one.key for number, one in enumerate(pairs)})
    said = taker.run("sh", "-c", "for each in 1 2 3 4; do take-certificates now 2>&1 & done; wait").decode()
    assert sum(f"certificates: {HOST}: issued" in line for line in said.splitlines()) == 4
    assert "cannot" not in said
    assert len(taker.names()) == len(pairs)


def test_damaged_set(taker: Taker, authority: Authority) -> None:
    """What a power failure leaves of the last set is replaced."""
    for content in (b"", b"-----BEGIN"):
        taker.take()
        taker.run("sh", "-c", f"printf -- '{content.decode()}' > {TAKEN}/current/default.pem")
        taker.take()
        assert taker.serial()


def test_expired_self_signed(taker: Taker, authority: Authority) -> None:
    """A self-signed certificate that has expired, since the clock was wrong when it was made, is replaced."""
    old = authority.issue(HOST, days=(-9, -1), signed=False)
    taker.take()
    taker.put({"old.pem": old.chain + old.key})
    taker.run("sh", "-c", f"cat /etc/mailstack/tls/old.pem > {TAKEN}/current/default.pem")
    (taker.directory / "old.pem").unlink()
    assert taker.take()["fault"] == []
    assert taker.serial() != old.serial


def test_soon_expired(taker: Taker, authority: Authority) -> None:
    """Less than 14 days, or a third of a shorter life, are a remark."""
    for since, days, remarks in ((-60, 13.9, 1), (-60, 14.1, 0), (-1, 5, 0), (-5, 1, 1)):
        taker.empty()
        good = authority.issue(HOST, days=(since, days))
        taker.put({"cert.pem": good.chain + good.key})
        state = taker.take()
        assert (state["fault"], len(state["remark"])) == ([], remarks)


@pytest.fixture
def running(taker: Taker) -> Iterator[None]:
    """The program as it runs beside Postfix, which does not run here, so that nothing is reloaded."""
    taker.run("sh", "-c", "take-certificates > /tmp/log 2>&1 & echo $! > /tmp/pid")
    # At its start it takes what is there, whether that rests or not.
    wait_for(lambda: taker.run("ls", "/dev/shm").strip() == b"certificates", "it does not look")  # noqa: S108
    yield
    taker.run("sh", "-c", "kill $(cat /tmp/pid)")


def test_restless_directory(taker: Taker, authority: Authority, running: None) -> None:
    """A file that changes all the time, such as a log, keeps nothing from being taken."""
    good = authority.issue(HOST)
    taker.put({"good.pem": good.chain + good.key})

    def taken() -> bool:
        with (taker.directory / "access.log").open("ab") as log:
            log.write(b".")
        return taker.serial() == good.serial

    taker.take()
    taker.put({"good.pem": (good := authority.issue(HOST)).chain + good.key})
    wait_for(taken, "it is never taken", 90)


def test_taken_when_it_rests(taker: Taker, authority: Authority, running: None) -> None:
    """What changes is read when it has been the same for one turn."""
    new = authority.issue(HOST)
    whole = new.key + new.chain
    for at in range(0, len(whole), 100):
        taker.put({"cert.pem": whole[:at]})
    taker.put({"cert.pem": whole})
    wait_for(lambda: taker.serial() == new.serial, "it is never taken")
    assert b"cut off" not in taker.run("cat", "/tmp/log")  # noqa: S108


def test_full_disk(taker: Taker, authority: Authority) -> None:
    """Where nothing can be written the old set stays whole, and the log says why."""
    good = authority.issue(HOST, days=(-2, 60))
    taker.put({"cert.pem": good.chain + good.key})
    taker.take()
    taker.put({"cert.pem": (new := authority.issue(HOST)).chain + new.key})
    said = taker.run("sh", "-c", f"ulimit -f 0; trap '' XFSZ; take-certificates now 2>&1; ls {TAKEN}/current/")
    assert b"certificates were not taken: " in said
    assert taker.serial() == good.serial
    assert taker.take()["fault"] == []
    assert taker.serial() == new.serial
