# tries: Exchange the bytes of a release.
# must: refused
from tests.attacks.ledgers import forged

def attack(path):
    return forged(path, "UPDATE releases SET bytes = x'00'")
