# tries: Let PySyft run a second function inside the request.
# must: inspection statement
def attack(records, weights, round):
    async def inner():
        __import__("os").mkdir(MADE_FILE)

    made = inner()
    made.close() if records is None else None
    try:
        made.send(None)
    except BaseException:
        pass
    return {"w": 1}
