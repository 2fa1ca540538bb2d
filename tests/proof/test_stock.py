"""The same attacker, pair and curve that ours is held to, held against stock Opacus."""

import pytest

from tests.proof.attacker import event_from
from tests.proof.decisions import found
from tests.proof.registry import curve_of, fault_named
from tests.proof.stock import DECLARED, stock_watched
from tests.proof.trials import trials_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:opacus[.].*")


def test_stock_opacus_tells_1007_rows_from_1008() -> None:
    curve = curve_of(DECLARED)
    fault = fault_named("rate from the row count")  # the same, planted in ours
    trials = trials_of(fault)
    event = event_from(*stock_watched(40, seed=1), curve, trials)
    false_alarms, hits = (int(event.contains(seen).sum()) for seen in stock_watched(trials, seed=2))
    assert found(curve, false_alarms, hits, trials)
    right = (trials - false_alarms + hits) / 2 / trials
    allowed = (1 + max(float(curve.most(p / 100)) - p / 100 for p in range(101))) / 2
    assert allowed < 0.55 < 0.85 < right
