# tries: Hand the runner a graph whose intermediate values take terabytes.
# must: refused
def attack(running):
    graph = running.graph
    graph["nodes"].append(["n2", "expand", [{"ref": "n1"}, [1000000, 2], False], [["float32", [1000000, 2]]]])
    graph["output"], graph["output_shape"] = "n2", [1000000, 2]
    return running.accepts(graph=graph)
