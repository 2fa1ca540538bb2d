# tries: Approve a charge below nothing.
# must: refused
from tests.attacks.ledgers import approves

def attack(path):
    return approves(path, divergence=-10**9)
