"""What a head on a public body reads right, beside the same model from nothing at the same ε: examples/fine_tuning.py.

Its model, pictures and settings, at three hospitals in this process by our own `train_round`, with other weights,
samples, noise and hold-outs for each seed. Scored on the held-out pictures themselves: what an evaluation's noise would
add is not in it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datasites.engine.lanes import compiled
from datasites.engine.matrix import GroupedRows, in_groups
from datasites.engine.noise import NoiseSource
from datasites.engine.splitting import split_for
from datasites.engine.training import train_round
from policies.graph.exporter import export_model
from policies.privacy.accountant import resolve
from policies.privacy.mechanisms import DPSGD
from policies.schema.schemas import Schema

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PUBLISHED = 320  # training patients of a hospital: four fifths of 400
WAYS = {"from nothing": None, "head on a body that saw 0 to 4": 5, "head on a body that saw all ten": 10}


def example(name: str) -> Any:
    """A program of examples/, as a module."""
    if str(EXAMPLES) not in sys.path:
        sys.path.append(str(EXAMPLES))
    return __import__(name)


def hospitals(seed: int) -> Iterator[tuple[GroupedRows, np.ndarray]]:
    """Of each hospital its rows with their images, and which of all pictures are held out there."""
    images, labels = example("digit_images").pictures()
    rng = np.random.default_rng(seed)
    for first in range(3):
        chosen = np.arange(first, len(images), 3)
        held_out = rng.random(len(chosen)) < 0.2
        chosen, held_out = np.concatenate([chosen[~held_out], chosen[held_out]]), np.sort(held_out)
        sides = [np.sort(rng.choice(2**40, (held_out == side).sum(), replace=False)) for side in (False, True)]
        rows = in_groups(np.column_stack([np.concatenate(sides), held_out, labels[chosen]]).astype(float), most=1)
        begins = rows.begins(held_out=False), rows.begins(held_out=True)
        yield GroupedRows(rows.matrix, *begins, {"image": images[chosen][:, None]}), chosen[held_out]


def accuracy(classes: int | None, seed: int) -> tuple[int, float]:
    """Numbers that are trained, and the share of all held-out pictures that the joint model reads right."""
    programs, images = example("fine_tuning"), example("digit_images")
    public = {} if classes is None else programs.pretrained(classes)
    torch.manual_seed(seed)
    model = programs.Digits()
    model.load_state_dict({**model.state_dict(), **public})
    weights = {name: value.detach().clone() for name, value in model.named_parameters()}
    graph = export_model(model, (1, 8, 8), frozen=("body.*",) if public else ())
    schema = Schema.from_toml(images.SCHEMA.format(hospital="north"))
    settings = programs.HEAD if public else programs.WHOLE
    mechanism = resolve(DPSGD(loss="cross_entropy", inputs="image", clipping_norm=1.0, epsilon=1.0, **settings))
    assert isinstance(mechanism, DPSGD)
    split, published = split_for(graph, mechanism, schema, PUBLISHED), list(hospitals(seed))
    for number in range(1, mechanism.rounds + 1):
        released = [
            train_round(
                graph, mechanism, schema, PUBLISHED, rows, weights, NoiseSource.from_os(), round=number, split=split
            )
            for rows, _ in published
        ]
        weights |= {name: torch.stack([each[name] for each in released]).mean(0) for name in released[0]}
    model.load_state_dict(weights)
    pictures, labels = images.pictures()
    held_out = np.concatenate([chosen for _, chosen in published])
    with torch.no_grad():
        read = model(torch.tensor(pictures[held_out] / 127.5 - 1, dtype=torch.float32)[:, None]).argmax(1).numpy()
    return graph.parameter_count, float((read == labels[held_out]).mean())


def shown(*, quick: bool) -> Iterator[tuple[str, ...]]:
    """By way of beginning: numbers that are trained, and lowest, mean and highest accuracy over the seeds."""
    compiled.load()
    for title, classes in WAYS.items():
        found = [accuracy(classes, seed) for seed in range(2 if quick else 5)]
        shares = [share for _, share in found]
        yield title, f"{found[0][0]:,}", *(f"{of(shares):.2f}" for of in (min, np.mean, max))
    compiled.unload()
