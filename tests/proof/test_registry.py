"""No mechanism goes unproved, and a module is found without anybody naming it."""

from pathlib import Path
from typing import get_args

import pytest

from policies.privacy.mechanisms import Mechanism
from tests.proof import mechanisms, registry
from tests.proof.decisions import PAIRS
from tests.proof.registry import STATIC, cases, controls, faults, proofs


def test_every_mechanism_is_proved_with_a_planted_fault() -> None:
    declared = {proof.declared: proof for proof in proofs().values() if proof.declared is not None}
    assert set(declared) == set(get_args(Mechanism)), "Add a module to tests/proof/mechanisms (see registry.py)."
    for proof in declared.values():
        assert proof.job is not None
        assert proof.loss is not None


@pytest.mark.parametrize("name", proofs())
def test_every_module_has_pairs_and_a_fault_that_shows_in_one_of_them(name: str) -> None:
    proof = proofs()[name]
    planted = (*proof.faults, *proof.controls)
    assert planted
    assert {fault.case for fault in planted} & {case.name for case in proof.cases()}


def test_every_fault_names_a_pair_and_says_its_chances_or_its_detector() -> None:
    for fault in (*faults(), *controls()):
        assert fault.case in cases()
    assert all(fault.chances is not None or fault.detector == STATIC for fault in faults())


def test_alarms_are_shared_by_no_fewer_pairs_than_there_are() -> None:
    assert len(cases()) + sum(fault.detector != STATIC for fault in faults()) <= PAIRS


def test_a_new_module_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "later.py").write_text("from tests.proof.registry import Proof\nPROOF = Proof(cases=lambda: [])\n")
    monkeypatch.setattr(mechanisms, "__path__", [*mechanisms.__path__, str(tmp_path)])
    registry.proofs.cache_clear()
    try:
        assert "later" in proofs()
    finally:
        registry.proofs.cache_clear()
