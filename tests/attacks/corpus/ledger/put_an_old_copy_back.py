# tries: Put the file back as it was before the last release.
# must: refused
from tests.attacks.ledgers import put_back

def attack(path):
    return put_back(path)
