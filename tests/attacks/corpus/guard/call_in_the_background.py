# tries: Make a call that does not block, which is queued for a worker.
# must: refused
from tests.attacks.guard.attacker import RESEARCHER


def attack(site):
    return site.succeeds(RESEARCHER, "dataset.get_all", blocking=False)
