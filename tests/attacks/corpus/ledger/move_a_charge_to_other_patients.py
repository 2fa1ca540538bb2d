# tries: Move what a round spent from all patients to the held-out ones alone, every hash computed anew.
# must: refused
from tests.attacks.ledgers import rechained

def attack(path):
    held_out = "replace({0}, '\"patients\":\"all\"', '\"patients\":\"held_out\"')"
    return rechained(path, f"UPDATE entries SET details = {held_out.format('details')} WHERE kind = 'settle'",
                     "UPDATE totals SET spent_divergence_nano = 0, spent_mixed = 0")
