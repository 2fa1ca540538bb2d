# tries: Leave a tensor out, so that the runner makes one up.
# must: refused
def attack(running):
    return running.accepts(weights={"layer.bias": running.weights["layer.bias"]})
