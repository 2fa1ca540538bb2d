# tries: Let the owner's call run code that was never approved.
# must: refused
import tempfile
from pathlib import Path

from syft.types.uid import UID

from tests.attacks.guard.attacker import OWNER, RESEARCHER, Refusal
from tests.attacks.guard.test_requests import RUNS


def attack(site):
    marker = Path(tempfile.mkdtemp()) / "ran"
    source = RUNS.format(name="corpus_called", marker=str(marker))
    try:
        code = site.call(RESEARCHER, "code.submit", code=site.submission(source)).id
    except Refusal:
        code = UID()
    site.succeeds(OWNER, "code.call", uid=code, records=site.asset().action_id)
    return marker.exists()
