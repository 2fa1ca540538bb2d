# tries: Act after a carriage return, which many editors show as no line.
# must: inspection unicode
# written: escaped
def attack(records, weights, round):\n    import torch  # harmless\r    __import__("os").mkdir(MADE_FILE)\n    return {"w": 1}\n
