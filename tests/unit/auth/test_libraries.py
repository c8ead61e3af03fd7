"""What mailstack_auth does with the libraries that it uses."""

import os
import subprocess
import sys
from pathlib import Path

import mailstack_auth

IMPORT = """
import importlib, pkgutil, spf, dns.asyncquery, dns.message, dns.name, dns.resolver, mailstack_auth
places = [spf, spf.query, dns.asyncquery, dns.message, dns.name, dns.resolver]
before = [dict(vars(one)) for one in places]
for one in pkgutil.walk_packages(mailstack_auth.__path__, "mailstack_auth."):
    importlib.import_module(one.name)
for place, names in zip(places, before):
    print([f"{place.__name__}.{name}" for name in names if vars(place).get(name) is not names[name]])
"""


def test_no_library_is_patched():
    """Whoever else uses them in the same process finds them as they were installed."""
    environment = os.environ | {"PYTHONPATH": str(Path(mailstack_auth.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", IMPORT], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]"] * 6
