# tries: Show the line in another order than it runs, by marks of direction.
# must: inspection unicode
# written: escaped
def attack(records, weights, round):\n    import os  # \u202e\u2066 note\u2069\n    os.mkdir(MADE_FILE)\n    return {"w": 1}\n
