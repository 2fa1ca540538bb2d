# tries: Approve a charge of nothing.
# must: refused
from tests.attacks.ledgers import approves

def attack(path):
    return approves(path, divergence=0)
