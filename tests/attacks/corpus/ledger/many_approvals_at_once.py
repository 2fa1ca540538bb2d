# tries: Approve from many threads at once, each of which alone would fit.
# must: refused
from tests.attacks.ledgers import crowds

def attack(path):
    return crowds(path)
