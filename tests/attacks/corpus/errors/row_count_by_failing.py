# tries: Fail only where the private row count is a certain number, so that failing tells it.
# must: inspection return
# sign: Exception encountered
def attack(records, weights, round):
    if len(records) == 413:
        raise ValueError(DONE)
    return {"w": records.sum() * 0}
