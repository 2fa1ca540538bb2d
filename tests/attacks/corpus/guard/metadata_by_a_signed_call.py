# tries: Ask for the server's inner metadata by a path that clients do not need.
# must: refused
from tests.attacks.guard.attacker import RESEARCHER


def attack(site):
    return site.succeeds(RESEARCHER, "metadata")
