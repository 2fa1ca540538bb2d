# tries: Read the private table over the network with the owner's password.
# must: refused
from tests.attacks.guard.attacker import OWNER
from tests.attacks.guard.test_objects import tries_to_read


def attack(site):
    return tries_to_read(site, OWNER, "action.get", uid=site.asset().action_id)
