# tries: Exchange the source of an approved request.
# must: refused
from tests.attacks.ledgers import forged

def attack(path):
    return forged(path, "UPDATE requests SET source = 'def evil(): ...' WHERE status = 'approved'")
