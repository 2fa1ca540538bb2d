# tries: Take what is reserved for others in many small requests, withdrawn and asked again.
# must: refused
from tests.attacks.ledgers import splits_into_many

def attack(path):
    return splits_into_many(path)
