# tries: Assert something of a private row, with the row as the message.
# must: inspection return
def attack(records, weights, round):
    assert records is None, str(float(records[0, 0]))
