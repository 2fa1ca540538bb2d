# tries: Compute for longer where a private value is above a bound.
# must: inspection import
# seconds: 2
def attack(records, weights, round):
    import time

    until = time.monotonic() + (2 if float(records[0, 0]) > 0.7 else 0)
    while time.monotonic() < until:
        pass
    print(DONE)
    return {"w": records.sum() * 0}
