# tries: Act in a decorator of the request itself.
# must: inspection decorator
@(lambda made: __import__("os").mkdir(MADE_FILE) or made)
def attack(records, weights, round):
    return {"w": 1}
