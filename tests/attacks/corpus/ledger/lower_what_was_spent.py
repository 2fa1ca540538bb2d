# tries: Lower the running total in the file.
# must: refused
from tests.attacks.ledgers import edited

def attack(path):
    return edited(path, "UPDATE totals SET spent_divergence_nano = 0")
