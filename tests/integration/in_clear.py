"""A mail server that offers no TLS. Run as a program in a container of the world; what it is told it writes down."""

import socketserver
import sys
from pathlib import Path

COMMANDS = Path("/run/in-clear/commands")


class InClear(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"220 plain.example\r\n")
        for line in self.rfile:
            with COMMANDS.open("ab") as file:
                file.write(line)
            self.wfile.write(b"221 bye\r\n" if line.upper().startswith(b"QUIT") else b"250 fine\r\n")


if __name__ == "__main__":
    socketserver.ThreadingTCPServer(("", int(sys.argv[1])), InClear).serve_forever()
