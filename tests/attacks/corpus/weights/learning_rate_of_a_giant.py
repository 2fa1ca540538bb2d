# tries: Multiply the update so that rounding shows the noise's grid and a row in it.
# must: refused
def attack(running):
    running.accepts(mechanism={"learning_rate": 1e6})
    return running.tells_rows()
