# tries: Remove entries from the end.
# must: refused
from tests.attacks.ledgers import forged

def attack(path):
    return forged(path, "DELETE FROM entries WHERE seq > 5")
