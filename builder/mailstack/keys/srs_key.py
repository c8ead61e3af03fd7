"""The key by which postsrsd knows the addresses that it has made itself.

It is made once and kept. If it is lost, bounces of the mail that was forwarded in the last three weeks are rejected.
"""

from pathlib import Path

from mailstack.keys.token import Token
from mailstack.services.postsrsd import KEY

FILE = Path(KEY.file)
_TOKEN = Token(FILE)
make, read, is_made = _TOKEN.make, _TOKEN.read, _TOKEN.is_made
