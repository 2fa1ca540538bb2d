"""Plots of statistics and scores: one panel for each, units on the axes, shown in notebooks by themselves."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter
from PIL import Image

from policies.privacy.mechanisms import Evaluation, Query
from researcher.results import EvaluationResult
from researcher.scores import read_scores
from tests.researcher.statistic_samples import DESCRIBED, EVERYTHING, asked, result
from tests.researcher.test_scores import drawn

ROOT = Path(__file__).resolve().parents[2]
GROUPS: list[Any] = [(), "ward", {"ward": [], "age": [65]}]


def shown(picture: Any) -> bytes:
    """What a notebook shows of a cell's value, by IPython's own formatter."""
    data, _ = DisplayFormatter().format(picture)
    assert "image/png" in data
    return data["image/png"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("group_by", GROUPS, ids=str)
@pytest.mark.parametrize("queries", [DESCRIBED, EVERYTHING], ids=["described", "asked"])
def test_a_notebook_shows_a_panel_for_each_statistic(queries: tuple[Query, ...], group_by: Any) -> None:
    picture = result(asked(queries, epsilon=5.0, group_by=group_by, bins=20)).plot()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # as of a layout that does not fit
        drawn = Image.open(io.BytesIO(shown(picture)))
    assert drawn.width > 800
    panels = [axes for axes in picture.axes if axes.axison]
    assert len(panels) == len(queries)
    labels = " ".join(axes.get_xlabel() + axes.get_ylabel() for axes in panels)
    assert "(years)" in labels or "% of records" in labels
    assert len(picture.legends) == 1


def test_names_and_conditions_set_no_mathematics() -> None:
    found = result(asked((Query("count"),), where="ward == 'general'"))
    picture = found.plot()
    assert picture.get_suptitle() == "stays-2026, where ward == 'general'"


def test_scores_are_drawn_with_their_intervals() -> None:
    mechanism = Evaluation(loss="binary_cross_entropy", epsilon=1.0, bins=20)
    counts = {name: drawn(np.random.default_rng(place), 300, 500) for place, name in enumerate(("a", "b"))}
    scores = {name: read_scores(table, mechanism) for name, table in counts.items()}
    found = EvaluationResult(scores, (), {}, ("no", "yes"), mechanism)
    assert len(shown(found.plot())) > 1000
    assert [axes.get_title() for axes in found.plot().axes][1:] == [
        "Calibration, all hospitals",
        "95 % intervals, as released",
    ]


@pytest.mark.process
def test_a_real_notebook_shows_the_plot_of_its_last_line() -> None:
    """A kernel of its own, asked as Jupyter asks it, without a word to matplotlib; where Jupyter is installed."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    source = "from tests.researcher.statistic_samples import asked, result\nfound = result(asked())\nfound.plot()"
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbclient.NotebookClient(
        book, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}
    ).execute()
    (output,) = [output for output in book.cells[0].outputs if output.output_type != "stream"]
    assert "image/png" in output.data
