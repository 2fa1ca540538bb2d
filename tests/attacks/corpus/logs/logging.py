# tries: Log a private row as an error of the server's own.
# must: inspection import
def attack(records, weights, round):
    import logging

    logging.getLogger("uvicorn.error").error("row %s", float(records[0, 0]))
    return {"w": records.sum() * 0}
