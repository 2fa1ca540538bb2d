# tries: Fail with a private row as the reason.
# must: inspection return
def attack(records, weights, round):
    raise ValueError(str(float(records[0, 0])))
