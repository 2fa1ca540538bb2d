# tries: The same, with every hash of the chain computed anew.
# must: refused
from tests.attacks.ledgers import rechained

def attack(path):
    return rechained(path, "UPDATE entries SET divergence_nano = divergence_nano / 2 WHERE kind = 'settle'",
                     "UPDATE totals SET spent_divergence_nano = spent_divergence_nano / 2")
