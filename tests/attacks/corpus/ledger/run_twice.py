# tries: Run one round twice, with other weights.
# must: refused
from tests.attacks.ledgers import runs_again

def attack(path):
    return runs_again(path)
