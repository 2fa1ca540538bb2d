# tries: Declare an encoding under which a comment is code.
# must: inspection return
# -*- coding: unicode_escape -*-
def attack(records, weights, round):
    # \n    __import__("os").mkdir(MADE_FILE)
    return {"w": 1}
