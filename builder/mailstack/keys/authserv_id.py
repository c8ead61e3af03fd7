"""The secret authserv-id: what OpenDKIM finds stands under it, and dmarc believes no other (RFC 8601 section 5).

It is made once and kept. Losing it costs nothing: a new one is made, and both services are recreated.
"""

from pathlib import Path

from mailstack.keys.token import Token
from mailstack.services.opendkim import AUTHSERV_ID

FILE = Path(AUTHSERV_ID.file)
_TOKEN = Token(FILE)
make, read, is_made = _TOKEN.make, _TOKEN.read, _TOKEN.is_made
