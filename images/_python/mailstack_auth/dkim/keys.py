"""Public keys of signatures, from the records that publish them (RFC 6376 section 3.6)."""

from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from mailstack_auth.dkim.tags import WHITE, PermError, from_base64, tag_list

# In octets. The record of a key of 8192 bits has 1.4 kB.
MAX_RECORD = 2048
# RFC 8301 section 3.2 refuses shorter RSA keys, and asks for up to 4096 bits. What a verification costs grows with the
# square of the modulus's length and with the exponent's.
MIN_KEY_BITS, MAX_KEY_BITS = 1024, 8192
MAX_EXPONENT = 2**32
# RFC 8032 section 5.1.6.
_ED25519_OCTETS = 64

# Algorithms and the key type of each (RFC 8301, RFC 8463). rsa-sha1 is no pass (RFC 8301 section 3.1).
ALGORITHMS: Mapping[bytes, bytes] = {b"rsa-sha256": b"rsa", b"ed25519-sha256": b"ed25519"}

Key = RSAPublicKey | Ed25519PublicKey


def public_key(record: bytes, algorithm: bytes, tags: Mapping[bytes, bytes]) -> Key:
    """The key in a record, if that lets it be used for such a signature (RFC 6376 section 6.1.2). Raises PermError."""
    if len(record) > MAX_RECORD:
        raise PermError("the key record is too long")
    try:
        published = tag_list(record)
        key = from_base64(published[b"p"])
    except (ValueError, KeyError):
        raise PermError("the key record is malformed") from None
    lists = {tag: [one.strip(WHITE) for one in text.split(b":")] for tag, text in published.items() if tag != b"p"}
    if published.get(b"v", b"DKIM1") != b"DKIM1":
        raise PermError("the key record has an unknown version")
    if b"sha256" not in lists.get(b"h", [b"sha256"]):
        raise PermError("the key does not allow this hash algorithm")
    if not {b"email", b"*"} & set(lists.get(b"s", [b"*"])):
        raise PermError("the key is not for mail")
    identity = tags.get(b"i", tags[b"d"]).rpartition(b"@")[2].lower()
    if b"s" in lists.get(b"t", []) and identity != tags[b"d"].lower():
        raise PermError("the key does not allow a sub-domain in i=")
    if published.get(b"k", b"rsa").lower() != ALGORITHMS.get(algorithm):
        raise PermError("the key is for another algorithm")
    if not key:
        raise PermError("the key is revoked")
    try:
        return Ed25519PublicKey.from_public_bytes(key) if algorithm == b"ed25519-sha256" else _rsa_key(key)
    except (ValueError, UnsupportedAlgorithm):
        raise PermError("the key is unusable") from None


def _rsa_key(octets: bytes) -> RSAPublicKey:
    key = load_der_public_key(octets)
    if not isinstance(key, RSAPublicKey):
        raise PermError("the key is for another algorithm")
    if not MIN_KEY_BITS <= key.key_size <= MAX_KEY_BITS:
        raise PermError(f"the key has {key.key_size} bits")
    if key.public_numbers().e > MAX_EXPONENT:
        raise PermError("the key's exponent is too large")
    return key


def length(key: Key) -> str:
    """The length of an RSA key, for a comment; empty for other keys, which have but one."""
    return f"{key.key_size}-bit key" if isinstance(key, RSAPublicKey) else ""


def verifies(key: Key, signature: bytes, digest: bytes) -> bool:
    """Whether a signature of a SHA-256 hash is the key's. Raises PermError for one of another length."""
    octets = -(-key.key_size // 8) if isinstance(key, RSAPublicKey) else _ED25519_OCTETS
    if len(signature) != octets:
        raise PermError(f"the signature has {len(signature)} octets, the key needs {octets}")
    try:
        if isinstance(key, RSAPublicKey):
            key.verify(signature, digest, PKCS1v15(), Prehashed(SHA256()))
        else:
            key.verify(signature, digest)
    except InvalidSignature:
        return False
    return True
