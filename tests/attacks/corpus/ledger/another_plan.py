# tries: Approve another plan than the one that was shown.
# must: refused
from tests.attacks.ledgers import approves

def attack(path):
    return approves(path, plan="another")
