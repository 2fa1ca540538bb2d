# tries: Look up a private value as a key, so that the key stands in the error.
# must: inspection return
def attack(records, weights, round):
    return {}[float(records[0, 0])]
