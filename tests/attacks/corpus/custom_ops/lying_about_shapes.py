# tries: Hand the runner a graph that says other shapes than it makes, to slip past the bounds.
# must: refused
def attack(running):
    graph = running.graph
    graph["nodes"][0][3] = [["float32", [2, 3]]]
    return running.accepts(graph=graph)
