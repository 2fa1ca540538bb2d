# tries: Approve a charge that is not a number.
# must: refused
from tests.attacks.ledgers import approves

def attack(path):
    return approves(path, divergence=float("nan"))
