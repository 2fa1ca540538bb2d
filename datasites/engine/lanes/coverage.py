"""Why a model does not run in lanes, for the people who wait for it: found out from its graph, on made-up values."""

from __future__ import annotations

import torch

from datasites.engine.lanes import compiled, readiness, scores
from datasites.engine.lanes.emitter import NotLowered
from datasites.engine.losses import loss_of
from datasites.engine.splitting import Split
from policies.graph.graphs import Graph
from policies.privacy.mechanisms import DPSGD, Evaluation
from policies.schema.schemas import Schema

NO_KERNELS = "This datasite's processor or installation has no kernels for lanes."
FAULT = "It does not become a program of lanes."


def why_not(graph: Graph, mechanism: DPSGD | Evaluation, schema: Schema, split: Split | None = None) -> str:
    """ "" where this process runs the model in lanes, else the reason in whole sentences; nothing of it is private.

    Of a model whose body runs once a round: what keeps its head from lanes, or else its body.
    """
    kernels = compiled.loaded()
    if kernels is None:
        return NO_KERNELS
    try:
        loss = loss_of(mechanism, schema, graph)
        if isinstance(mechanism, DPSGD):
            trained = graph if split is None else split.head
            readiness.made_for(
                trained, loss, len(schema.classes), mechanism.clipping_norm, 1.0, kernels, mechanism.stability
            )
            if split is not None:
                scores.made_for(split.body, None, _zeros(split.body), kernels)
        else:
            scores.made_for(graph, loss, _zeros(graph), kernels)
    except NotLowered as error:
        return str(error)
    except Exception:  # as where the engine is chosen: whatever is wrong, torch runs the model
        return FAULT
    return ""


def _zeros(graph: Graph) -> dict[str, torch.Tensor]:
    return {parameter.name: torch.zeros(parameter.shape) for parameter in graph.trained}
