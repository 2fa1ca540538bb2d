# tries: Exceed a year's part with requests that are each within it.
# must: refused
from tests.attacks.ledgers import spreads_over_requests

def attack(path):
    return spreads_over_requests(path)
