# tries: Ask for the process to end with a text.
# must: inspection return
def attack(records, weights, round):
    raise SystemExit(f"row {float(records[0, 0])}")
