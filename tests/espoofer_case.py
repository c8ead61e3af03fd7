"""Sends a case of the espoofer package, by its own sender: python espoofer_case.py CASE HOST PORT ROW.

A program of its own, because the package puts its folder, with an old dkimpy in it, in front of all others. It signs
with the key in the file dkimkey of the current directory.
"""

import re
import socket
import sys

import espoofer.espoofer


def read_line(_: object, link: socket.socket) -> str:
    """A line of a reply. The package's own would wait without end where the server has closed."""
    octets = b""
    while not octets.endswith(b"\n"):
        octet = link.recv(1)
        if not octet:
            raise EOFError
        octets += octet
    return octets.decode("utf-8", "replace").rstrip()


espoofer.espoofer.MailSender.read_line = read_line
case, host, port, row = sys.argv[1:]
espoofer.espoofer.config.update(
    attacker_site=b"evil.example",
    legitimate_site_address=b"admin@bank.example",
    victim_address=b"user@bravo.example",
    subject_header=f"Subject: {row}\r\n".encode(),
    to_header=b"To: <user@bravo.example>\r\n",
    body=f"{row}\r\n".encode(),
    server_mode={"recv_mail_server": host, "recv_mail_server_port": int(port), "starttls": False},
)
data = espoofer.espoofer.test_cases[case]["data"]
data["other_headers"] = re.sub(rb"(?<=Message-ID: <)[^@]*", row.encode(), data["other_headers"])
sys.argv = ["espoofer", "--mode", "s", "--caseid", case]
espoofer.espoofer.main()
