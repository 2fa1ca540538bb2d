# tries: File a request under a project that a part is reserved for, without being named for it.
# must: refused
from tests.attacks.ledgers import names_a_project

def attack(path):
    return names_a_project(path)
