# tries: Let approved code act in the server.
# must: refused
import tempfile
from pathlib import Path

from tests.attacks.guard.attacker import OWNER, RESEARCHER, Refusal
from tests.attacks.guard.test_requests import RUNS


def attack(site):
    marker = Path(tempfile.mkdtemp()) / "ran"
    try:
        submission = site.submission(RUNS.format(name="corpus_approved", marker=str(marker)))
        request = site.call(RESEARCHER, "code.request_code_execution", code=submission)
        site.call(OWNER, "request.apply", uid=request.id)
        site.call(RESEARCHER, "code.call", uid=request.code_id, records=site.asset().action_id)
    except Refusal:
        pass
    return marker.exists()
