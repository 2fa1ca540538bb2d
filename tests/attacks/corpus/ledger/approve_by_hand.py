# tries: Make a waiting request approved in its table.
# must: refused
from tests.attacks.ledgers import forged

def attack(path):
    return forged(path, "UPDATE requests SET status = 'approved', rounds = 9 WHERE status = 'checked'")
