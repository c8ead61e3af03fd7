"""What is mounted into each service's container, whatever starts it."""

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from types import MappingProxyType

from mailstack.render.overrides import applied
from mailstack.render.templating import data_root, fill
from mailstack.services.ids import IDS
from mailstack.services.opendkim import KEY_DIRECTORY
from mailstack.stack.mail import SRS_MARK
from mailstack.stack.model import Stack
from mailstack.stack.services import service_names
from mailstack.tree import File, Tree
from mailstack.values.mail import is_catch_all, junk_address
from mailstack.values.network import Network

# images/<service>/site/<path in the container>.j2
_SITE_SUFFIX = ".j2"


def files(stack: Stack, overrides: Mapping[str, str] = MappingProxyType({})) -> dict[str, Tree]:
    """What is mounted into each service's container, by its path there."""
    return {service: applied(service, _service(service, stack), overrides) for service in service_names(stack)}


def _service(service: str, stack: Stack) -> Tree:
    root = data_root() / "images" / service / "site"
    found = {}
    for path in sorted(root.glob(f"**/*{_SITE_SUFFIX}")):
        name = path.relative_to(root).as_posix()
        content = fill(f"images/{service}/site/{name}", stack=stack, **_VIEWS)
        found[name.removesuffix(_SITE_SUFFIX)] = File(content)
    return Tree(found)


def _bracketed(network: Network) -> str:
    """A network as Postfix writes it: IPv6 in brackets (postconf(5), mynetworks)."""
    return f"[{network.network_address}]/{network.prefixlen}" if network.version == 6 else str(network)  # noqa: PLR2004


def _table(rows: Iterable[tuple[str, Iterable[str]]]) -> str:
    """A table of addresses (virtual(5)), where a catch-all has no local part.

    It is put together here, since jinja takes four times as long for each row, and there may be many.
    """
    keys = ((address[1:] if is_catch_all(address) else address, values) for address, values in rows)
    return "".join(f"{key} {', '.join(values)}\n" for key, values in keys)


def _maildirs(stack: Stack) -> Iterator[tuple[str, tuple[str]]]:
    """The directory of each mailbox and of its Junk; one that a mailbox server has is listed so that it exists."""
    for mailbox in stack.mailboxes:
        local, _, domain = mailbox.rpartition("@")
        yield mailbox, (f"{domain}/{local}/Maildir/",)
        if domain in stack.maildirs:
            yield junk_address(mailbox), (f"{domain}/{local}/Maildir/.Junk/",)


_VIEWS = {
    "ids": IDS,
    "key_directory": KEY_DIRECTORY,
    "bracketed": _bracketed,
    "maildirs": _maildirs,
    "srs_mark": SRS_MARK,
    "table": _table,
    "json": partial(json.dumps, default=str),
}
