# tries: Raise a population's capacity in its table.
# must: refused
from tests.attacks.ledgers import forged

def attack(path):
    return forged(path, "UPDATE populations SET capacity_nano = capacity_nano * 10, epsilon = 60")
