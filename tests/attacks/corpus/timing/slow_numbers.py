# tries: Use numbers near zero, which take a hundred times longer where a processor keeps them.
# must: refused
import json

import numpy as np


def attack(running):
    """Reached is a record that came through numbers below the smallest normal one: it trained the model.

    Where such numbers are flushed to zero, which takes no longer than any other, the inputs are zero and so are the
    weights' gradients.
    """
    graph = running.graph
    shape = [["float32", [1, *graph["input_shape"]]]]
    chain, last = [], "record"
    for number, factor in enumerate([1e-6] * 7 + [1e6] * 7):
        chain.append([f"n{number}", "mul.Tensor", [{"ref": last}, factor], shape])
        last = f"n{number}"
    text = json.dumps([graph["nodes"], graph["output"]])
    for number in reversed(range(len(graph["nodes"]))):
        text = text.replace(f'"n{number}"', f'"n{number + len(chain)}"')
    nodes, graph["output"] = json.loads(text.replace('"record"', f'"{last}"'))
    graph["nodes"] = chain + nodes
    answer = running.run(graph=graph, mechanism={"noise_multiplier": 1e-4, "sampling_rate": 1.0})
    assert answer is not None and answer.done, running.told
    moved = np.abs(weights(answer)["layer.weight"]).max()
    return moved > 1e-3


def weights(answer):
    from policies.release.tensors import from_bytes

    return from_bytes(answer.payload)
