# tries: Train for as many steps as a private value says.
# must: inspection statement
def attack(records, weights, round):
    count = int(float(records[0, 0]) * 100)
    for _ in range(count):
        records.sum()
    print(DONE if count == 73 else "no")
    return {"w": records.sum() * 0}
