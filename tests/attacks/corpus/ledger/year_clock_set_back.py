# tries: Set the clock back to a year whose part was not used up.
# must: refused
from tests.attacks.ledgers import sets_the_clock_back

def attack(path):
    return sets_the_clock_back(path)
