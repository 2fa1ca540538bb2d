# tries: Publish another table of the population that holds other patients out, so that some are in both accounts.
# must: refused
from tests.attacks.ledgers import splits_anew

def attack(path):
    return splits_anew(path)
