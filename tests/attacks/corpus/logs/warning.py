# tries: Warn with a private row in the text.
# must: inspection import
def attack(records, weights, round):
    import warnings

    warnings.warn("row " + str(float(records[0, 0])))
    return {"w": records.sum() * 0}
