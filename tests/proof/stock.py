"""Stock Opacus, as its documentation uses it, in the place of our engine: final weights for the same attacker.

`make_private` takes the sampling rate from `1 / len(loader)` and the divisor from `int(rows · rate)` (issues 571 and
819 of pytorch/opacus), so that the size of the noise in the released weights tells how many rows there are.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from opacus import PrivacyEngine
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tests.proof.attacker import FloatArray, seen_in_training
from tests.proof.mechanisms.dp_sgd import CLIPPING_NORM, WIDE, sgd
from tests.proof.neighbours import PUBLISHED, SCHEMA, Matrix, TwoLayers, direction, loud, pair

BATCH = 64
DECLARED = sgd(sampling_rate=1 / 16, noise_multiplier=1.0)  # what make_private says of 1007 and of 1008 rows


def watch(table: Matrix) -> FloatArray:
    """What one step of stock Opacus shows."""
    inputs, labels = torch.from_numpy(SCHEMA.inputs(table)), torch.from_numpy(SCHEMA.targets(table)).float()
    model = TwoLayers(WIDE)
    sent = loud(WIDE)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in sent.items()})
    with warnings.catch_warnings():
        # Stock Opacus warns of its own hooks, of secure_mode and of where its best order lies.
        warnings.simplefilter("ignore")
        private, optimizer, loader = PrivacyEngine(accountant="rdp").make_private(
            module=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=1.0),
            data_loader=DataLoader(TensorDataset(inputs, labels), batch_size=BATCH),
            noise_multiplier=DECLARED.noise_multiplier,
            max_grad_norm=CLIPPING_NORM,
        )
        features, truth = next(iter(loader))
        nn.functional.binary_cross_entropy_with_logits(private(features)[:, 0], truth).backward()
        optimizer.step()
    released = {name: value.detach().numpy() for name, value in private._module.named_parameters()}
    return seen_in_training([sent], [released], direction(WIDE), CLIPPING_NORM / (DECLARED.sampling_rate * PUBLISHED))


def stock_watched(trials: int, *, seed: int) -> tuple[FloatArray, FloatArray]:
    """[trials, features] at 1007 rows and at 1008, in turns."""
    tables = pair(1007)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        both = np.asarray([[watch(table) for table in tables] for _ in range(trials)])
    return both[:, 0], both[:, 1]
