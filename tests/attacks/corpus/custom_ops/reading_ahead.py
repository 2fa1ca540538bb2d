# tries: Hand the runner a graph that reads what is made later.
# must: refused
def attack(running):
    graph = running.graph
    graph["nodes"][0][2][0] = {"ref": "n1"}
    return running.accepts(graph=graph)
