# tries: Return the release and the table beside it.
# must: inspection return
def attack(records, weights, round):
    return records[:2], {"w": records.mean()}
