"""How long a round takes says nothing of the values in it: a hostile model makes its time depend on patients.

√-1 takes twenty-seven times as long as √1, and a round of a model that took roots of -1 for patients above an age
showed after one, two or three multiples of its public time as there were none, a third or all of that age.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from datasites.engine import constant_time
from datasites.engine.lanes import compiled
from datasites.engine.lanes.compiled import KernelsMissing
from datasites.jobs import warming
from datasites.review.timing import slowest
from policies.graph.exporter import export_model


def test_a_runner_has_them_before_it_computes_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    class Installed(Exception): ...

    def install() -> None:
        raise Installed

    monkeypatch.setattr(constant_time, "install", install)
    with pytest.raises(Installed):
        warming._warm_runner()


class Sorts(nn.Module):
    """Puts the record in order, or what does not come of it."""

    def __init__(self, *, record: bool) -> None:
        super().__init__()
        self.layer, self.record = nn.Linear(3, 1), record

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.sort(x if self.record else torch.ones_like(x) * self.layer.weight)[0] + x)


class LooksUp(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.table = nn.Embedding(size, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.table(x.to(torch.int64).clamp(0, 99)).flatten(1).sum(1, keepdim=True)


def test_a_round_takes_its_time_on_the_slowest_values() -> None:
    assert slowest(export_model(nn.Linear(3, 1), (3,))) == 1
    assert slowest(export_model(Sorts(record=True), (3,))) == 10
    assert slowest(export_model(LooksUp(100), (3,))) == 1
    assert slowest(export_model(LooksUp(100_000), (3,))) == 10


def too_slow(way: str, *names: str, most: float, times: int = 3) -> dict[str, float]:
    """Operators whose time on the slowest values is more than `most` times what their public figure says.

    Each of `times` measurements has to say so: what depends on values does so always, and a busy machine does not.
    """
    found = _measured(way, *names, most=most)
    return too_slow(way, *found, most=most, times=times - 1) if found and times > 1 else found


def _measured(way: str, *names: str, most: float) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.attacks.runner.slow_values", way, *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    found = json.loads(done.stdout)
    assert sorted(found) == sorted(names)
    return {name: ratio for name, (ratio, figure) in found.items() if ratio > most * figure}


@pytest.mark.process
def test_forty_slow_operators_take_as_long_on_every_value() -> None:
    """e^88 took twice as long as e^1, arctan 0 and arcsin 10⁻¹⁰ too, (-1)^½ ten times, with gradients 1.3 to 2.5."""
    assert too_slow("places", "atan", "exp", "asin", "root", most=1.2) == {}


@pytest.mark.process
def test_forty_operators_in_lanes_take_as_long_on_every_value() -> None:
    """Within two in a hundred, as measured; so no figure of the slowest is needed there."""
    try:
        compiled.level_of_this_processor()
    except KernelsMissing as error:
        pytest.skip(str(error))
    assert too_slow("lanes", "atan", "exp", "tanh", "log1p", "root", "where", "asinh", most=1.2) == {}
