# tries: Use or free another project's part by moving a request between projects.
# must: refused
from tests.attacks.ledgers import moves_between_projects

def attack(path):
    return moves_between_projects(path)
