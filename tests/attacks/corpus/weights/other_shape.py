# tries: Send a tensor of another shape than the graph's.
# must: refused
import numpy as np


def attack(running):
    return running.accepts(weights={**running.weights, "layer.weight": np.zeros((200, 3), np.float32)})
