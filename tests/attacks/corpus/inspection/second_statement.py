# tries: Act beside the request.
# must: inspection request
__import__("os").mkdir(MADE_FILE)


def attack(records, weights, round):
    return {"w": 1}
