# tries: Hand the runner a graph with an operator that is in no list.
# must: refused
STOCK = '''
def attack(records, weights, round):
    import torch

    return {"w": torch.ops.aten.record_stream.default and records[:1]}
'''


def attack(running):
    graph = running.graph
    graph["nodes"][0][1] = "aten.record_stream"
    return running.accepts(graph=graph)
