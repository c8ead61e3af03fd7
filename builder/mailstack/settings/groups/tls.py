"""Certificates, by which others know this host on an encrypted connection."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from mailstack.settings.groups.kinds import Group
from mailstack.values import tokens


class Tls(Group):
    tls_directory: Annotated[str, BeforeValidator(tokens.directory)] = Field(
        default="tls",
        description="The directory with the host name's certificate and private key (PEM), in whatever files and "
        "sub-directories certbot, lego, acme.sh or Traefik put them; certificates of other names are used for these. "
        "While there is none, a self-signed certificate is used.",
        examples=["/etc/letsencrypt"],
    )
