# tries: Approve so many rounds of a small charge that their sum is too large.
# must: refused
from tests.attacks.ledgers import approves

def attack(path):
    return approves(path, divergence=10**8, rounds=1000)
