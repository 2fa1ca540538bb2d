# tries: Fail where Python only prints: while an object is thrown away.
# must: inspection class
def attack(records, weights, round):
    row = float(records[0, 0])

    class Last:
        def __del__(self):
            raise ValueError(f"row {row}")

    Last()
    return {"w": records.sum() * 0}
