# tries: Bring times and events that are no numbers, and see whether the run fails.
# must: refused
import numpy as np


def attack(running):
    """It ends as every other: reached would be a failure, which tells one bit of the data."""
    graph, rows = running.graph, running.rows()
    graph["parameters"][0][1], graph["input_shape"] = [2, 2], [2]
    graph["nodes"][0][3][0][1] = [2, 2]
    weights = {**running.weights, "layer.weight": np.zeros((2, 2), np.float32)}
    rows[3, 2], rows[4, 2], rows[5, 5] = np.inf, np.nan, -np.inf
    asked = {"loss": "discrete_hazards", "target": ["age", "influenza"], "horizon": 60.0}
    return not all(
        running.accepts(job, graph=graph, weights=weights, rows=rows, mechanism=asked) for job in ("train", "evaluate")
    )
