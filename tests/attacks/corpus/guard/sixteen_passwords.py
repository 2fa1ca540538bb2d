# tries: Try sixteen passwords of one account at once.
# must: refused
from concurrent.futures import ThreadPoolExecutor

from tests.attacks.guard.attacker import Refusal


def attack(site):
    """Reached: every one of them was compared."""

    def one(number):
        try:
            site.login("target@university.example", f"guess {number}")
        except Refusal as refusal:
            return refusal.text
        return ""

    with ThreadPoolExecutor(8) as pool:
        return not [each for each in pool.map(one, range(16)) if each.startswith("Too many")]
