# tries: Bring a part back with an ended project, after others were given it.
# must: refused
from tests.attacks.ledgers import brings_a_part_back

def attack(path):
    return brings_a_part_back(path)
