# tries: Write a private row to the error stream.
# must: inspection import
def attack(records, weights, round):
    import sys

    sys.stderr.write(f"row {float(records[0, 0])}\n")
    sys.stderr.flush()
    return {"w": records.sum() * 0}
