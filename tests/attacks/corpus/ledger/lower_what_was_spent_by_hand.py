# tries: The same with the file's triggers put aside and made again.
# must: refused
from tests.attacks.ledgers import forged

def attack(path):
    return forged(path, "UPDATE totals SET spent_divergence_nano = 0")
