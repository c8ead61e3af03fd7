"""Where images come from, and the packages in them."""

import re
from urllib.parse import urlsplit


def url(token: str | None) -> str | None:
    """An http: or https: URL without credentials, query or fragment; no final slash."""
    if token is None:
        return None
    if "@" in token:
        raise ValueError("has a password in it, which would stay in the images; use a server that needs none")
    try:
        parts = urlsplit(token if token.isprintable() and " " not in token else "")
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_is_right = urlsplit(""), False
    if (
        parts.scheme not in {"http", "https"}
        or not parts.hostname
        or not port_is_right
        or parts.query
        or parts.fragment
    ):
        raise ValueError("is not a URL; write, for example: http://mirror.example.com/debian")
    if not re.fullmatch(r"[A-Za-z0-9:/._~\[\]-]+", token):
        raise ValueError(
            "has characters other than letters, digits and . _ ~ -; write, for example: http://192.0.2.80:3142"
        )
    return token.rstrip("/")


def image(token: str) -> str:
    """An image's name as the engine takes it, with a tag or a digest if need be."""
    if not re.fullmatch(
        r"[a-z0-9][a-zA-Z0-9._/-]*(?::[0-9]+/[a-zA-Z0-9._/-]+)?(?::[\w.-]+)?(?:@sha256:[0-9a-f]{64})?", token, re.ASCII
    ):
        raise ValueError("is not an image name; write, for example: debian:trixie-slim")
    return token


def snapshot(token: str | None) -> str | None:
    """A moment in UTC as archives of snapshots name their directories: ISO 8601, basic format."""
    if token is None or re.fullmatch(r"[0-9]{8}T[0-9]{6}Z", token, re.ASCII):
        return token
    raise ValueError("is not a timestamp in UTC; write, for example: 20261101T000000Z")
