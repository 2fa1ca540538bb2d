# tries: Make a charge smaller in its entry and in the total.
# must: refused
from tests.attacks.ledgers import forged

def attack(path):
    return forged(path, "UPDATE entries SET divergence_nano = divergence_nano / 2 WHERE kind = 'settle'",
                  "UPDATE totals SET spent_divergence_nano = spent_divergence_nano / 2")
