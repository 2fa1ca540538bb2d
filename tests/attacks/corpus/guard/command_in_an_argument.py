# tries: Run a command by bytes inside a signed call.
# must: refused
import tempfile
from pathlib import Path

from tests.attacks.guard.attacker import RESEARCHER, Refusal
from tests.attacks.guard.test_bytes import command, signed_with


def attack(site):
    marker = Path(tempfile.mkdtemp()) / "ran"
    try:
        site.send(signed_with(site, RESEARCHER, command(marker)))
    except Refusal:
        pass
    return marker.exists()
