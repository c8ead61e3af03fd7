"""The services of a site: their values, and what the site decides about them.

The limits are at least twice of what was measured, or what a service may use by limits of its own. Measured: anonymous
and kernel memory in MB, with processes and threads; idle; with 100 sessions past RCPT on port 25 and 50 on port 587;
and the most while messages of 50 MB, with 900 kB of header, and 100 at once came in.

| service     | idle   | sessions | messages | room for                                            |
| ----------- | ------ | -------- | -------- | --------------------------------------------------- |
| postfix     | 8, 10  | 392, 310 | 351, 270 | all processes of both ports                         |
| opendkim    | 3, 9   | 5, 9     | 25, 63   | a thread and a header for each message; its keys    |
| policyd-spf | 25, 4  | 26, 4    | 26, 4    | 300 connections, with 60 MB                         |
| dmarc       | 27, 4  | 27, 4    | 30, 4    | 2 MB of header for each message                     |
| resolver    | 9, 3   | 9, 3     | 9, 3     | full caches, 24 MB by its own count                 |
| postsrsd    | 1, 1   | 1, 1     | 1, 1     | a process for each of Postfix's that asks           |

A session that comes through a proxy of the site's is three processes and 5 MB in postfix.
"""

from dataclasses import replace
from pathlib import PurePosixPath

from mailstack.services import SERVICES, postfix, postsrsd
from mailstack.services.model import Directory, Limits, Secret, Service, socket_of
from mailstack.stack.model import Stack

# Each process of Postfix that asks a table holds all of it (texthash, DATABASE_README), some 200 octets a row.
_ROW_OCTETS = 200
# In MiB: ask-dovecot, and spawn(8) before it, for each smtpd of ports 465 and 587, 3 MB together.
_LOGINS = 640
# smtpd, on both ports, and cleanup for each message that comes in (default_process_limit, postconf(5)).
_READERS = 300


def services(stack: Stack) -> tuple[Service, ...]:
    """What runs for a site."""
    wanted = (*SERVICES, *((postsrsd.SERVICE,) if stack.srs_key_digest else ()))
    return tuple(_DECIDED[one.name](one, stack) if one.name in _DECIDED else one for one in wanted)


def service_names(stack: Stack) -> tuple[str, ...]:
    """What it is called."""
    return tuple(one.name for one in services(stack))


def _postfix(own: Service, stack: Stack) -> Service:
    sockets = tuple(socket_of(one.name) for one in SERVICES if one.socket)
    # By another name for another content: compose sees the name, and recreates the container.
    secrets = tuple(Secret(PurePosixPath(one.login).name, one.login, one.secret) for one in stack.relays if one.login)
    # With ports for proxies it has twice as many.
    ports = 2 if stack.proxy_networks else 1
    memory = own.limits.memory + (_LOGINS if stack.sasl else 0)
    return replace(
        own,
        hostname=stack.hostname,
        ports=stack.publish,
        volumes=(
            *own.volumes,
            *sockets,
            *((postfix.MAIL,) if stack.maildirs else ()),
            *((postfix.SCREENED,) if stack.screening else ()),
        ),
        directories=(Directory(stack.tls_directory, postfix.CERTIFICATES),),
        secrets=secrets,
        limits=Limits(ports * memory + _tables(stack), ports * own.limits.processes),
    )


def _opendkim(own: Service, stack: Stack) -> Service:
    keys = tuple(Secret(one.name, str(one.path), f"dkim/{one.name}.pem") for one in stack.keys.signers)
    return replace(own, secrets=(*own.secrets, *keys))


def _resolver(own: Service, stack: Stack) -> Service:
    return replace(
        own,
        addresses={"lookup": stack.lookup.resolver, "inner": stack.inner.resolver},
        name_servers=("127.0.0.2",) if stack.neighbours else (),
    )


def _postsrsd(own: Service, stack: Stack) -> Service:
    return replace(own, addresses={"lookup": stack.lookup.postsrsd})


_DECIDED = {"postfix": _postfix, "opendkim": _opendkim, "resolver": _resolver, "postsrsd": _postsrsd}


def _tables(stack: Stack) -> int:
    """The memory that Postfix's tables need in MiB.

    A domain stands in two, and its postmaster and abuse in one; an address in one, beside that of its Junk. One more
    has domains and aliases where a mailbox server is asked.
    """
    aliases = len(stack.alias_rows)
    addresses = len(stack.mailboxes) + aliases
    rows = 4 * len(stack.domains) + (2 if stack.judging.junk else 1) * addresses
    if stack.asked:
        rows += len(stack.domains) + aliases
    return rows * _ROW_OCTETS * _READERS // 2**20
