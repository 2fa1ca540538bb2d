"""Why a model does not run in lanes, for the people who wait for it: found out from its graph, on made-up values."""

from __future__ import annotations

import torch

from datasites.engine.lanes import compiled, readiness, scores
from datasites.engine.lanes.emitter import NotLowered
from datasites.engine.losses import loss_of
from policies.graph.graphs import Graph
from policies.privacy.mechanisms import DPSGD, Evaluation
from policies.schema.schemas import Schema

NO_KERNELS = "This datasite's processor or installation has no kernels for lanes."
FAULT = "It does not become a program of lanes."


def why_not(graph: Graph, mechanism: DPSGD | Evaluation, schema: Schema) -> str:
    """ "" where this process runs the model in lanes, else the reason in whole sentences; nothing of it is private."""
    kernels = compiled.loaded()
    if kernels is None:
        return NO_KERNELS
    try:
        loss = loss_of(mechanism, schema, graph)
        if isinstance(mechanism, DPSGD):
            readiness.made_for(
                graph, loss, len(schema.classes), mechanism.clipping_norm, 1.0, kernels, mechanism.stability
            )
        else:
            weights = {parameter.name: torch.zeros(parameter.shape) for parameter in graph.trained}
            scores.made_for(graph, loss, weights, kernels)
    except NotLowered as error:
        return str(error)
    except Exception:  # as where the engine is chosen: whatever is wrong, torch runs the model
        return FAULT
    return ""
