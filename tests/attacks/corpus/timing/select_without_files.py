# tries: Wait in the kernel for a private time.
# must: inspection import
def attack(records, weights, round):
    import select

    select.select([], [], [], float(records[0, 0]))
    print(DONE)
    return {"w": records.sum() * 0}
