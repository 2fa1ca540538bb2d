# tries: Write to the error stream below Python, where nothing redirects it.
# must: inspection import
def attack(records, weights, round):
    import os

    os.write(2, b"row %r\n" % float(records[0, 0]))
    return {"w": records.sum() * 0}
