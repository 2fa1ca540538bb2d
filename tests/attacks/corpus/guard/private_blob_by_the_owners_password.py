# tries: Read the private table's file by its identifier with the owner's password.
# must: refused
from tests.attacks.guard.attacker import OWNER
from tests.attacks.guard.test_objects import tries_to_read


def attack(site):
    return tries_to_read(site, OWNER, "blob_storage.read", uid=site.private_blob())
