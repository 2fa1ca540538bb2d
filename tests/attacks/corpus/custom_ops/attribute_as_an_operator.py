# tries: Name a Python attribute where an operator is expected.
# must: refused
def attack(running):
    graph = running.graph
    graph["nodes"][0][1] = "__class__"
    return running.accepts(graph=graph)
