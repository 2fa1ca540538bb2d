# tries: Fail only where a private value is above a bound.
# must: inspection statement
# sign: Exception encountered
def attack(records, weights, round):
    if float(records[0, 0]) > 0.7:
        raise ValueError(DONE)
    return {"w": records.sum() * 0}
