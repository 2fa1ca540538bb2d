# tries: Act in a default argument of the request itself.
# must: inspection parameters
def attack(records, weights, round, extra=__import__("os").mkdir(MADE_FILE)):
    return {"w": 1}
