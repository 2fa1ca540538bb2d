# tries: Take the file's triggers away for good.
# must: refused
from tests.attacks.ledgers import edited

def attack(path):
    return edited(path, "DROP TRIGGER entries_not_updated", "DROP TRIGGER spent_never_decreases")
