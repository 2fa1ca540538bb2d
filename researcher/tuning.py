"""Choose among settings on the hospitals' own patients: every setting is trained, scored by rounds, and paid for.

Several hospitals train a setting in rounds whose releases leave them one by one, so each setting's are seen whether or
not it wins. What is charged is therefore all that was released, by composition; a charge for the best alone (Papernot &
Steinke 2022, arXiv:2110.03620) would be untrue of them (docs/decisions/0022-tuning.md). What keeps it cheap is to end
early: a setting that falls behind the best one's curve ends there, and the rest of it is given back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policies.errors import InvalidRequest, WrongStatus
from policies.numbers import written
from policies.privacy.mechanisms import DPSGD, as_dict, check_range
from researcher.checks import Check
from researcher.curves import LOWER_IS_BETTER, LearningCurve
from researcher.members import Hospitals
from researcher.studies import Evaluation, Study
from researcher.table import Table

if TYPE_CHECKING:
    from torch import nn

    from researcher.results import Result

MOST_SETTINGS = 20


@dataclass(frozen=True)
class Behind:
    """A rule for `stop_when`: the newest point is worse than another curve's at the same round by more than `than`."""

    best: LearningCurve
    than: float
    figure: str

    def __call__(self, curve: LearningCurve) -> str:
        """Why training ends, or ""."""
        known = self.best.combined(self.figure)
        for number, found in list(curve.combined(self.figure).items())[-1:]:
            if number in known:
                sign = -1.0 if self.figure in LOWER_IS_BETTER else 1.0
                if sign * found.value + self.than < sign * known[number].value:
                    values = (written(one.value, digits=3) for one in (found, known[number]))
                    return "{} {} is behind {} of the best setting after round {}.".format(self.figure, *values, number)
        return ""


@dataclass(frozen=True)
class TuningCheck:
    """What every hospital says to each setting before it is asked, and what all of them cost together.

    Args:
      checks: of the settings, in order.
      together: one row per hospital: ε if none ended early, the budget, and whether it surely fits.
    """

    checks: tuple[Check, ...]
    together: Table

    def __str__(self) -> str:
        return "\n".join([*(str(check) for check in self.checks), "All settings together, if none ends early:",
                          str(self.together)])  # fmt: skip

    __repr__ = __str__


@dataclass(frozen=True)
class TuningResult:
    """What the settings came to.

    Args:
      settings: as they were declared.
      results: of each, with its curve.
      figure: by which they are compared.
      best: place of the best one, from 0.
    """

    settings: tuple[DPSGD, ...]
    results: tuple[Result, ...]
    figure: str
    best: int

    @property
    def training(self) -> DPSGD:
        """The best setting."""
        return self.settings[self.best]

    @property
    def result(self) -> Result:
        """What it came to."""
        return self.results[self.best]

    @property
    def table(self) -> Table:
        """One row per setting: what is different in it, its newest figure, and why it ended early."""
        told = [as_dict(setting) for setting in self.settings]
        names = [name for name in told[0] if any(one.get(name) != told[0].get(name) for one in told)]
        rows = []
        for place, (setting, result) in enumerate(zip(told, self.results, strict=True)):
            found = list(result.curve.combined(self.figure).values()) if result.curve else []
            row = {"best": "best" if place == self.best else "", **{name: setting.get(name) for name in names}}
            rows.append(row | {self.figure: str(found[-1]) if found else "nobody scored", "ended": result.ended})
        return Table(rows)

    def __str__(self) -> str:
        return str(self.table)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table._repr_html_()


class Tuning:
    """Several settings of one training, each a study of its own: `check()`, `submit()`, `wait_for_approval()`, `run()`.

    Args:
      name: `flu-tuning` makes the studies `flu-tuning-1`, `flu-tuning-2`, ...
      settings: 2 to 20 trainings of the same loss, inputs and target. Their ε are charged, each for itself.
      curve: how each is scored after every so many rounds. Its `epsilon` is of each point.
      every: rounds from one point to the next; every setting's `rounds` is a multiple of it.
      than: how far a setting may be behind the best one at the same round before it ends, in the figure's own units.
      figure: one of the curve's, as `"AUC"`; the first where it is None.
      purpose, state, seed, progress: as of `Study`.
    """

    def __init__(
        self,
        name: str,
        cohort: Hospitals,
        model: type[nn.Module] | nn.Module,
        settings: Sequence[DPSGD],
        *,
        curve: Evaluation,
        every: int = 1,
        than: float = 0.0,
        figure: str | None = None,
        purpose: str = "",
        state: Path | str | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> None:
        self.settings = _checked(settings, every)
        check_range("than", than, 0, 1e9)
        self.than, self.cohort = float(than), cohort
        self.studies = tuple(
            Study(
                f"{name}-{number}",
                cohort,
                model,
                setting,
                curve=curve,
                every=every,
                purpose=f"{purpose} Setting {number} of {len(self.settings)} that are compared.".strip(),
                state=None if state is None else Path(state) / str(number),
                seed=seed,
                progress=progress,
            )
            for number, setting in enumerate(self.settings, start=1)
        )
        first = self.studies[0]
        empty = LearningCurve((), curve.mechanism(first.training), cohort.schema)
        self.figure = empty.checked(figure)

    def check(self) -> TuningCheck:
        """Inspect every setting and ask what all of them cost at every hospital. Nothing is asked, nothing is charged.

        Raises what `Study.check` does.
        """
        checks = tuple(study.check() for study in self.studies)
        rows = []
        for hospital in self.cohort.members:
            own = [
                row
                for check in checks
                for row in check.rows
                if row["hospital"] == hospital and row.get("ε") is not None
            ]
            if own:
                rows.append(_together(hospital, own))
        return TuningCheck(checks, Table(rows))

    def submit(self, *, project: str = "") -> Table:
        """Ask every hospital for every setting; see `Study.submit`."""
        return _joined([study.submit(project=project) for study in self.studies])

    def wait_for_approval(self, *, timeout: float | None = None) -> Table:
        """Wait until every hospital has decided on every setting; see `Study.wait_for_approval`."""
        return _joined([study.wait_for_approval(timeout=timeout) for study in self.studies])

    def status(self) -> Table:
        """Where each request of each setting stands."""
        return _joined([study.status() for study in self.studies])

    def withdraw(self) -> Table:
        """Close every request; what no run has touched goes back to the hospitals' budgets."""
        return _joined([study.withdraw() for study in self.studies])

    def run(self, strategy: str | None = None, **options: Any) -> TuningResult:
        """Train the settings one after the other; each ends where it falls behind the best of those before it.

        Called again it goes on where it was, and pays for nothing twice. Arguments are those of `Study.run`.

        Raises:
          WrongStatus: no hospital scored any setting, so that there is no best one.
        """
        results, best, reached = list[Any](), None, None
        for place, study in enumerate(self.studies):
            if best is not None:
                study.stop_when = Behind(results[best].curve, self.than, self.figure)
            results.append(study.run(strategy, **options))
            figure = self._last(results[-1])
            if figure is not None and (reached is None or figure > reached):
                best, reached = place, figure
        if best is None:
            raise WrongStatus("No hospital scored any setting, so there is no best one. Ask owners about the curves.")
        return TuningResult(self.settings, tuple(results), self.figure, best)

    def _last(self, result: Result) -> float | None:
        """The figure after a setting's last round, higher is better; None of one that ended or that nobody scored."""
        if result.ended or result.curve is None:
            return None
        found = result.curve.combined(self.figure)
        sign = -1.0 if self.figure in LOWER_IS_BETTER else 1.0
        return sign * list(found.values())[-1].value if found else None

    def __repr__(self) -> str:
        return f"<Tuning of {len(self.settings)} settings by {self.figure} on {self.cohort.name!r}>"


def _checked(settings: Sequence[DPSGD], every: int) -> tuple[DPSGD, ...]:
    kept = tuple(settings) if isinstance(settings, (list, tuple)) else ()
    if not 2 <= len(kept) <= MOST_SETTINGS or not all(isinstance(setting, DPSGD) for setting in kept):
        raise InvalidRequest(f"settings is no list of 2 to {MOST_SETTINGS} researcher.Training(...). Give one.")
    for setting in kept:
        if (setting.loss, setting.inputs, setting.target, setting.horizon) != (
            kept[0].loss, kept[0].inputs, kept[0].target, kept[0].horizon,
        ):  # fmt: skip
            raise InvalidRequest("Settings of another loss, inputs or target cannot be compared. Tune them apart.")
        if type(every) is not int or every < 1 or setting.rounds % every:
            raise InvalidRequest(
                f"rounds={setting.rounds} is no multiple of every={every!r}, so its last model would not be scored."
            )
    if len(set(kept)) != len(kept):
        raise InvalidRequest("Two settings are alike. Leave one of them out.")
    return kept


def _together(hospital: str, rows: Sequence[Any]) -> dict[str, Any]:
    """What requests add to a hospital's ε: at most the sum of what each would add by itself."""
    before = max(float(row["ε spent before"] or 0.0) for row in rows)
    added = sum(float(row["after"]) - float(row["ε spent before"]) for row in rows)
    of = float(rows[0]["of"])
    return {"hospital": hospital, "requests": len(rows), "ε spent before": before, "after, at most": before + added,
            "of": of, "surely fits": before + added <= of}  # fmt: skip


def _joined(tables: Sequence[Table]) -> Table:
    return Table([row for table in tables for row in table.rows])
