"""policyd-spf: serves the SPF policy to Postfix on a unix socket.

One process imports the evaluation once; a thread for each connection, because evaluation waits for DNS.
"""

import json
import signal
import socketserver
import sys
import threading
from collections import OrderedDict
from pathlib import Path

from mailstack_auth import protocol, spf

SOCKET = Path("/var/spool/postfix/policyd-spf/policyd-spf.sock")
CONFIGURATION = Path("/etc/policyd-spf/policy.json")

# RFC 3463: a local problem, not the sender's; Postfix keeps the message out for now.
TROUBLE = "DEFER_IF_PERMIT 4.3.0 SPF check failed inside, try again later"
# A message's further recipients follow within a connection's life; this many messages can be in progress.
REMEMBERED = 1024


class Decisions:
    """What was answered for each message, so that its next recipients get one header between them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: OrderedDict[str, str] = OrderedDict()

    def again(self, instance: str) -> str | None:
        """The action for a further recipient of a message that was judged."""
        with self._lock:
            return self._answers.get(instance)

    def remember(self, instance: str, action: str) -> None:
        repeated = "DUNNO" if action.startswith("PREPEND ") else action
        with self._lock:
            self._answers[instance] = repeated
            if len(self._answers) > REMEMBERED:
                self._answers.popitem(last=False)


class Server(socketserver.ThreadingUnixStreamServer):
    """The listening socket, and what all connections share."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, path: Path, policy: spf.Policy) -> None:
        # A socket that an earlier container left behind; nobody else writes in this directory.
        path.unlink(missing_ok=True)
        super().__init__(str(path), Connection)
        path.chmod(0o770)  # the group is Postfix's
        self.policy = policy
        self.decisions = Decisions()


class Connection(socketserver.StreamRequestHandler):
    """One smtpd process, message after message."""

    server: Server

    def handle(self) -> None:
        try:
            for request in protocol.requests(self.rfile):
                self.wfile.write(protocol.reply(answer(request, self.server)))
        except protocol.ProtocolError as error:
            log(f"closing a connection: {error}")
        except (BrokenPipeError, ConnectionResetError):
            pass  # smtpd ended in the middle of a request


def answer(request: dict[str, str], server: Server) -> str:
    """The action for one request; whatever goes wrong, the message waits and is not let in unjudged."""
    if request.get("request") == "healthcheck":
        return "OK"
    instance = request.get("instance", "")
    known = server.decisions.again(instance) if instance else None
    if known is not None:
        return known
    queue_id = request.get("queue_id") or "NOQUEUE"
    client = request.get("client_address", "")
    try:
        verdict = spf.judge(request, server.policy)
    except Exception as error:  # noqa: BLE001
        log(f"{queue_id}: client={client!a} error={error!a:.200} action=DEFER_IF_PERMIT")
        return TROUBLE
    log(
        f"{queue_id}: client={client} identity={verdict.identity} domain={verdict.domain!a:.300} "
        f"result={verdict.result} action={verdict.action.split()[0]}"
    )
    if instance:
        server.decisions.remember(instance, verdict.action)
    return verdict.action


def log(text: str) -> None:
    """One event, one line; values that a client sent come in through ascii()."""
    sys.stdout.write(f"policyd-spf: {text}\n")
    sys.stdout.flush()


def main() -> None:
    """Serve until TERM."""
    policy = spf.Policy.from_json(json.loads(CONFIGURATION.read_text()))
    with Server(SOCKET, policy) as server:
        # PID 1 has no default action for TERM. shutdown() waits for serve_forever(), so it cannot run inside it.
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
        log(f"listening on {SOCKET}")
        server.serve_forever()
