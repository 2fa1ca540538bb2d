# tries: Send a recorded submission a second time.
# must: refused
from tests.attacks.guard.attacker import RESEARCHER, Refusal


def attack(site):
    data = site.signed(RESEARCHER, "code.request_code_execution", code=site.submission("def replayed(records):\n    return 1\n"))
    answers = []
    for _ in range(2):
        try:
            site.send(data)
            answers.append("")
        except Refusal as refusal:
            answers.append(refusal.text)
    return "answered before" not in answers[1]
