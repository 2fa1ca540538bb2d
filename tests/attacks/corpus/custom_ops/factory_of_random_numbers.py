# tries: Hand the runner a graph that draws numbers of its own.
# must: refused
def attack(running):
    graph = running.graph
    graph["nodes"][0] = ["n0", "randn", [[3, 2]], [["float32", [3, 2]]]]
    return running.accepts(graph=graph)
