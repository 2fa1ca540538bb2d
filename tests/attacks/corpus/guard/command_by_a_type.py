# tries: Run a command by bytes that name a type, with no account at all.
# must: refused
import tempfile
from pathlib import Path

from tests.attacks.guard.test_bytes import command


def attack(site):
    marker = Path(tempfile.mkdtemp()) / "ran"
    site.http("POST", "/api_call", data=command(marker))
    return marker.exists()
