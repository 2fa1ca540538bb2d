"""What a hospital's quote says that it would run is held against what is asked, field by field."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from policies.privacy.accountant import resolve
from policies.privacy.mechanisms import DPSGD
from policies.release.plans import Plan
from researcher.checks import _as_json, _unresolved
from tests.researcher.conftest import TRAINING

pytestmark = pytest.mark.quick


def plan(declared: DPSGD, runs: DPSGD) -> Plan:
    return Plan("flu", resolve(runs), "FluPredictor", None, "0" * 64, "flu", "v1", declared)


def test_a_plan_with_its_noise_found_is_what_was_asked() -> None:
    asked = replace(TRAINING, schedule="cosine", clipping="automatic")
    assert _unresolved(plan(asked, asked)) == _as_json(asked)


@pytest.mark.parametrize("changes", [{"schedule": "cosine"}, {"clipping": "automatic"}, {"learning_rate": 0.5}])
def test_a_plan_that_leaves_a_field_at_its_default_is_another_one(changes: dict[str, Any]) -> None:
    # A field at its default is written nowhere: it is missing from what would run, and not different there.
    asked = replace(TRAINING, **changes)
    assert _unresolved(plan(asked, TRAINING)) != _as_json(asked)
