# tries: Spell a value in the names of the tensors that return.
# must: inspection return
def attack(records, weights, round):
    return {"w" + str(float(records[0, 0])): records[:1].sum() * 0}
