# tries: Put another value under the identifier of one that is stored.
# must: refused
from tests.attacks.guard.attacker import RESEARCHER
from tests.attacks.guard.test_objects import stored


def attack(site):
    mine = stored(data=[1, 2])
    site.call(RESEARCHER, "action.set", action_object=mine)
    again = stored(data=["changed"])
    again.id = mine.id
    return site.succeeds(RESEARCHER, "action.set", action_object=again)
