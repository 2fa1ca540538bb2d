# tries: Hold a lock for a time that tells a private value.
# must: inspection import
def attack(records, weights, round):
    import threading

    threading.Lock().acquire(timeout=float(records[0, 0])) and threading.Event().wait(float(records[0, 0]))
    print(DONE)
    return {"w": records.sum() * 0}
