"""Show that the stated ε is true, and that the showing could fail: `python -m tests.proof [--fault NAME]`."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import argparse
import time

import torch
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.proof.attacker import event_from
from tests.proof.decisions import ALARM, PAIRS, found
from tests.proof.one_run import SHOWN, audited
from tests.proof.registry import STATIC, Fault, cases, curve_of, fault_named, faults
from tests.proof.stock import DECLARED, stock_watched
from tests.proof.trials import PILOT, found_by_shape, power_of, trials_of, trials_of_case, tried

console = Console(width=max(140, Console().width))


def try_fault(fault: Fault) -> tuple[str, ...]:
    """One row: fault, pair, detector, power, trials, what was seen with the fault."""
    case = cases()[fault.case]
    if fault.detector == STATIC:
        with fault.plant():
            seen = "FOUND" if found_by_shape(case) else "not found"
        return fault.name, fault.case, fault.detector, "1", "1", seen
    assert case.curve  # of the declared mechanism, before anything is spoilt
    shown, trials = f"{power_of(fault):.4f}", trials_of(fault)
    with fault.plant():
        seen = str(tried(case, trials))
    return fault.name, fault.case, fault.detector, shown, str(trials), seen


def try_stock() -> tuple[str, ...]:
    """Stock Opacus, at the pair and the curve of ours."""
    fault = fault_named("rate from the row count")
    curve, trials = curve_of(DECLARED), trials_of(fault)
    event = event_from(*stock_watched(PILOT, seed=1), curve, trials)
    false_alarms, hits = (int(event.contains(seen).sum()) for seen in stock_watched(trials, seed=2))
    verdict = "FOUND" if found(curve, false_alarms, hits, trials) else "within the curve"
    return "stock Opacus, 1007 or 1008 rows", f"{false_alarms} and {hits} of {trials}: {verdict}"


def main() -> None:
    """Print both tables; the second one's last row is what stock Opacus comes to."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof", description=__doc__)
    parser.add_argument("--fault", choices=[fault.name for fault in faults()], help="this one alone")
    chosen = parser.parse_args().fault
    torch.set_num_threads(1)
    begin = time.monotonic()
    console.print(
        f"An event is fixed on {PILOT} pilot runs of each side, then counted in as many others as its power asks for; "
        f"the chance of any false alarm in all of this is {ALARM:g}, shared by {PAIRS} pairs. "
        "'a and b of n': seen a times without the patient, b times with.",
        highlight=False,
    )
    made = Table("planted fault", "pair", "detector", "power", "trials", "result", box=box.SIMPLE)
    for fault in track(faults(), "planted faults", console=console):
        if chosen in (None, fault.name):
            made.add_row(*try_fault(fault))
    console.print(made)
    if chosen is None:
        made = Table("ours, nothing planted", "result", box=box.SIMPLE)
        for name, case in track(cases().items(), "ours", console=console):
            made.add_row(name, str(tried(case, trials_of_case(name))))
        made.add_section()
        made.add_row(*try_stock())
        made.add_section()
        made.add_row("one-run audit of ours", f"{audited().surplus:+.1f} deviations from its simulated null")
        for name in SHOWN:
            with fault_named(name).plant():
                made.add_row(f"one-run audit, {name}", f"{audited().surplus:+.1f} deviations")
        console.print(made)
    load = os.getloadavg()[0]
    console.print(f"{time.monotonic() - begin:.0f} s, {time.process_time():.0f} s of processor, load {load:.1f}.")


if __name__ == "__main__":
    main()
