# tries: Approve more than is left.
# must: refused
from tests.attacks.ledgers import approves

def attack(path):
    return approves(path, divergence=10**12)
