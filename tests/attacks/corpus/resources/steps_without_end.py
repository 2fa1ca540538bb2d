# tries: Ask the runner for a million million steps.
# must: refused
def attack(running):
    return running.accepts(mechanism={"steps": 10**12}, seconds=3)
