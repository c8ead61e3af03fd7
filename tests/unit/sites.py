"""Sites for tests: the smallest one, and whatever a test changes of it."""

import base64
import hashlib
from collections.abc import Callable, Mapping

from mailstack.errors import Fault, SettingsError
from mailstack.keys.dkim import DIRECTORY, DkimKey
from mailstack.settings.load import load
from mailstack.settings.model import PREFIX, Settings
from mailstack.stack.decide import key_domains, stack_from
from mailstack.stack.model import Stack

MINIMAL: Mapping[str, str] = {
    "hostname": "mail.example.com",
    "domains": "example.com",
    "mailboxes": "user@example.com",
}


def variable(name: str) -> str:
    """The variable of a setting."""
    return PREFIX + name.upper()


def environment(**changes: str) -> dict[str, str]:
    """MINIMAL with changes, as variables."""
    return {variable(name): value for name, value in (MINIMAL | changes).items()}


def settings(**changes: str) -> Settings:
    """MINIMAL with changes, loaded."""
    return load(environment(**changes))


def faults(**changes: str) -> tuple[Fault, ...]:
    """What load() says against MINIMAL with changes; nothing if it takes them."""
    try:
        load(environment(**changes))
    except SettingsError as error:
        return error.faults
    return ()


def key_of(selector: str, bits: int = 2048) -> Callable[[str], DkimKey]:
    """Keys without a private half. As in a real record, p= is base64 of the modulus and 38 octets around it."""

    def key(domain: str) -> DkimKey:
        public = base64.b64encode(hashlib.shake_256(domain.encode()).digest(bits // 8 + 38)).decode()
        path = DIRECTORY / f"{selector}._domainkey.{domain}.pem"
        return DkimKey(domain, selector, path, bits, f"v=DKIM1; h=sha256; k=rsa; p={public}")

    return key


def stack(bits: int = 2048, authserv_id: str = "a secret", **changes: str) -> Stack:
    """MINIMAL with changes, decided, with keys of a length."""
    chosen = settings(**changes)
    return decided(chosen, bits, hashlib.sha256(authserv_id.encode()).hexdigest())


def decided(chosen: Settings, bits: int = 2048, authserv_id_digest: str = "digest") -> Stack:
    """The Stack of settings, with keys of a length."""
    key = key_of(chosen.dkim_selector, bits)
    on_disk = frozenset(key(domain).path for domain in key_domains(chosen))
    srs_key_digest = "digest of the key" if chosen.forwards_by_srs else None
    return stack_from(chosen, key, on_disk, authserv_id_digest, srs_key_digest=srs_key_digest)
