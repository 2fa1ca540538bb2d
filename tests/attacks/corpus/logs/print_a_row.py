# tries: Print a private row.
# must: inspection statement
def attack(records, weights, round):
    print("row", float(records[0, 0]))
    return {"w": records.sum() * 0}
