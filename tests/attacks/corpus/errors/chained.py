# tries: Hide a private row in the cause of a harmless error.
# must: inspection return
def attack(records, weights, round):
    try:
        raise ValueError(str(float(records[0, 0])))
    except ValueError as error:
        raise RuntimeError("cannot converge") from error
