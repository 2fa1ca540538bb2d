# tries: Read the server's own code and paths in the traceback of an error.
# must: refused
from syft.types.uid import UID

from tests.attacks.guard.attacker import OWNER, Refusal


def attack(site):
    try:
        site.call(OWNER, "request.apply", uid=UID())
    except Refusal as refusal:
        return bool(refusal.trace)
