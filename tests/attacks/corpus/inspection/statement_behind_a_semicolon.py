# tries: Act behind a semicolon.
# must: inspection statement
def attack(records, weights, round):
    import torch; __import__("os").mkdir(MADE_FILE)
    return {"w": 1}
