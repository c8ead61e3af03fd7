"""What is mounted into each service's container, whatever starts it."""

import json
from collections.abc import Mapping
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
from mailstack.values.mail import domain_of, is_catch_all, junk_address
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


def _mailbox_path(mailbox: str) -> str:
    local, _, domain = mailbox.rpartition("@")
    return f"{domain}/{local}/Maildir/"


def _table_key(address: str) -> str:
    """An alias as Postfix looks it up: a catch-all has no local part (virtual(5))."""
    return address[1:] if is_catch_all(address) else address


_VIEWS = {
    "ids": IDS,
    "key_directory": KEY_DIRECTORY,
    "bracketed": _bracketed,
    "mailbox_path": _mailbox_path,
    "domain_of": domain_of,
    "srs_mark": SRS_MARK,
    "table_key": _table_key,
    "junk_address": junk_address,
    "json": partial(json.dumps, default=str),
}
