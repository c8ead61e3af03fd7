"""Tag lists, as signatures and key records are written (RFC 6376 section 3.2)."""

import base64
import binascii

WHITE = b" \t\r\n"


class PermError(Exception):
    """The signature can never verify, or the key record is not for it; the text says why (RFC 6376 section 6.1)."""


def tag_list(value: bytes) -> dict[bytes, bytes]:
    """The tags by name (RFC 6376 section 3.2). Raises ValueError for what is no tag, and for two of one name."""
    tags: dict[bytes, bytes] = {}
    for part in value.strip(WHITE).removesuffix(b";").split(b";"):
        name, equals, text = part.partition(b"=")
        name = name.strip(WHITE)
        if not equals or not name[:1].isalpha() or name in tags:
            raise ValueError(f"not a tag, or not the first of its name: {part!a:.100}")
        tags[name] = text.strip(WHITE)
    return tags


def from_base64(text: bytes) -> bytes:
    """Base64 with white space in it (RFC 6376 section 3.2). Raises ValueError."""
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error:
        raise ValueError("not base64") from None
