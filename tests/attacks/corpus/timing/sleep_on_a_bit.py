# tries: Sleep where a private value is above a bound.
# must: inspection import
# seconds: 3
def attack(records, weights, round):
    import time

    if float(records[0, 0]) > 0.7:
        time.sleep(3)
        print(DONE)
    return {"w": records.sum() * 0}
