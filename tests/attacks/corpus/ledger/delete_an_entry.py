# tries: Remove the entry of a release.
# must: refused
from tests.attacks.ledgers import forged

def attack(path):
    return forged(path, "DELETE FROM entries WHERE kind = 'settle'")
