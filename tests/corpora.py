"""Messages that no one here wrote: other projects' test data, fetched as packages, and the examples in RFCs."""

import hashlib
import io
import subprocess
import sys
import tarfile
from pathlib import Path

from mailstack.engine import connection

# Messages and key records of dkimpy's own tests.
DKIMPY = "dkimpy==1.1.8 --hash=sha256:b5f60fb47bbf5d8d762f134bcea0c388eba6b498342a682a21f1686545094b77"
DKIMPY_FOLDER = "dkimpy-1.1.8/dkim/tests/data"
MAILBITS = "mailbits==0.2.3 --hash=sha256:13140be94825d440986dee0a6e653d81d3b4df4b0059fbdb6d78ba8ccb0c4ec0"
MAILBITS_FOLDER = "mailbits-0.2.3/test/data/emails"
# The data of CPython's test_email. PyPI has no package with it, Debian has: of the release that the base image is.
CPYTHON = "libpython3.13-testsuite"
CPYTHON_FOLDER = "/usr/lib/python3.13/test/test_email/data"
CPYTHON_DIGEST = "a2e3b0711c2366dde661fc1e79a485d758297a7dcc2932353e63a93b4318aee8"


def source_files(requirement: str, folder: str, directory: Path) -> dict[str, bytes]:
    """The files in one folder of a source distribution on PyPI; the requirement holds its hash."""
    (directory / "wanted").write_text(f"{requirement}\n")
    command = ["pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--require-hashes", "-r", "wanted"]
    subprocess.run([sys.executable, "-m", *command], cwd=directory, check=True)
    with tarfile.open(next(directory.glob("*.tar.gz"))) as archive:
        return _files(archive, folder)


def cpython_messages(base_image: str) -> dict[str, bytes]:
    """msg_01.txt and so on."""
    fetch = f"cd /mnt && apt-get -q update && apt-get -q download {CPYTHON} && dpkg-deb -x {CPYTHON}_*.deb files"
    container = connection.connect().containers.create(base_image, ["sh", "-c", fetch])
    try:
        container.start()
        assert container.wait()["StatusCode"] == 0, container.logs().decode(errors="replace")
        stream, _ = container.get_archive(f"/mnt/files{CPYTHON_FOLDER}")
    finally:
        container.remove(force=True, v=True)
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
        found = {name: octets for name, octets in _files(archive, "data").items() if name.startswith("msg_")}
    digest = hashlib.sha256(b"".join(name.encode() + b"\0" + found[name] for name in sorted(found)))
    assert digest.hexdigest() == CPYTHON_DIGEST, f"{CPYTHON} holds other messages now"
    return found


def _files(archive: tarfile.TarFile, folder: str) -> dict[str, bytes]:
    found = {}
    for member in archive.getmembers():
        parent, _, name = member.name.rpartition("/")
        content = archive.extractfile(member) if parent == folder else None
        if content is not None:
            found[name] = content.read()
    return found


# The message of RFC 6376, appendix A, and of RFC 8463, appendix A, with which mailauth and stalwart test as well.
_DINNER = b"""\
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game. Are you hungry yet?

Joe.
"""
RFC_6376_MESSAGE = (
    b"""\
DKIM-Signature: v=1; a=rsa-sha256; s=brisbane; d=example.com;
      c=simple/simple; q=dns/txt; i=joe@football.example.com;
      h=Received : From : To : Subject : Date : Message-ID;
      bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
      b=AuUoFEfDxTDkHlLXSZEpZj79LICEps6eda7W3deTVFOk4yAUoqOB
        4nujc7YopdG5dWLSdNg6xNAZpOPr+kHxt1IrE+NahM6L/LbvaHut
        KVdkLLkpVaVVQPzeRDI009SO2Il5Lu7rDNH6mZckBdrIx0orEtZV
        4bmp/YzhwvcubU4=;
Received: from client1.football.example.com  [192.0.2.1]
      by submitserver.example.com with SUBMISSION;
      Fri, 11 Jul 2003 21:01:54 -0700 (PDT)
"""
    + _DINNER
)
# RFC 6376, appendix C: the key of that signature.
RFC_6376_KEY = (
    "v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQ"
    "DwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYtIxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v"
    "/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB"
)
RFC_8463_MESSAGE = b"""\
DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
""" + _DINNER.replace(b"game. Are", b"game.  Are")
# RFC 8463, appendix A.2: the keys of those signatures, by selector.
RFC_8463_KEYS = {
    "brisbane": "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
    "test": (
        "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWR"
        "iGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC"
        "/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB"
    ),
}
