"""What the ledger's two accounts rest on: training and evaluation each read one group of patients, to the last bit.

With the same keys a release is the same bytes whether or not a patient of the other group is in the table; with one of
its own group it is not.
"""

from __future__ import annotations

import numpy as np
import pytest

from datasites.engine.matrix import HELD_OUT, PATIENT
from policies.privacy.mechanisms import DPSGD, Evaluation
from tests.proof.cases import known_keys, release
from tests.proof.mechanisms.dp_sgd import LOSS, NARROW, sgd
from tests.proof.neighbours import PUBLISHED, loud, pair, quiet

MECHANISMS = (sgd(), sgd(sampling_rate=0.5, steps=8), Evaluation(loss=LOSS, epsilon=50.0, bins=5))


def same(mechanism: DPSGD | Evaluation, *, held_out: bool, records: int, weights: object) -> bool:
    """Whether a patient with `records`, who is held out or trains, changes nothing of a release."""
    found = []
    for table in pair(PUBLISHED, held_out=held_out, records=records):
        others = table[:, PATIENT] < PUBLISHED
        table[others, HELD_OUT] = table[others, PATIENT] % 3 == 0  # both groups are there
        with known_keys("groups"):
            found.append(release(mechanism, table, weights(NARROW), NARROW, PUBLISHED))  # type: ignore[operator]
    without, with_patient = found
    assert without.keys() == with_patient.keys()
    return all(np.array_equal(without[name], with_patient[name]) for name in without)


@pytest.mark.parametrize("weights", [loud, quiet])
@pytest.mark.parametrize("records", [1, 20])
@pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda mechanism: mechanism.kind)
def test_a_patient_of_the_other_group_changes_no_bit(
    mechanism: DPSGD | Evaluation, records: int, weights: object
) -> None:
    assert same(mechanism, held_out=isinstance(mechanism, DPSGD), records=records, weights=weights)


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda mechanism: mechanism.kind)
def test_a_patient_of_its_own_group_changes_it(mechanism: DPSGD | Evaluation) -> None:
    assert not same(mechanism, held_out=isinstance(mechanism, Evaluation), records=1, weights=loud)
