# tries: Write a number whose reading takes long, and whose product takes longer.
# must: inspection return
def attack(records, weights, round):
    return {"w": 1, "n": DONE, "long": (9 ** 9 ** 6) % 7}
