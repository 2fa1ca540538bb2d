# tries: Hand the runner a graph of a hundred thousand operators.
# must: refused
def attack(running):
    graph = running.graph
    graph["nodes"] += [[f"n{i}", "neg", [{"ref": f"n{i - 1}"}], [["float32", [1, 2]]]] for i in range(2, 100_000)]
    graph["output"] = "n99999"
    return running.accepts(graph=graph)
