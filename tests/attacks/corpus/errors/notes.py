# tries: Hide a private row in the notes of an error.
# must: inspection statement
def attack(records, weights, round):
    error = RuntimeError("cannot converge")
    error.add_note(str(float(records[0, 0])))
    raise error
