"""The generated source is what the researcher wrote, and what the owner reads."""

import ast
import importlib.util
import linecache
import textwrap

import pytest
import torch
from torch import nn

from policies.errors import InvalidRequest
from policies.privacy.grouping import groupings_from
from policies.privacy.mechanisms import DPSGD, Evaluation, KaplanMeier, Query, Statistics
from policies.source.inspection import inspect_source
from researcher.sources import class_source, function_name, request_source
from tests.researcher import study_models as models

TRAINING = DPSGD(
    loss="binary_cross_entropy",
    rounds=5,
    steps=40,
    sampling_rate=0.06,
    clipping_norm=1.0,
    epsilon=2.0,
    learning_rate=2.0,
)

EXPECTED = '''\
def flu_2026(records, weights, round):
    """Predict influenza from symptoms at the visit."""
    from datasites.mechanisms import dp_sgd
    from torch import nn, relu, sigmoid

    class FluPredictor(nn.Module):
        """Ten features in, one probability out."""

        def __init__(self):
            super().__init__()
            self.hidden = nn.Linear(10, 32)
            self.output = nn.Linear(32, 1)

        def forward(self, x):
            return sigmoid(self.output(relu(self.hidden(x))))

    return dp_sgd(
        FluPredictor, records, weights, round,
        loss="binary_cross_entropy",
        rounds=5,
        steps=40,
        sampling_rate=0.06,
        clipping_norm=1.0,
        learning_rate=2.0,
        epsilon=2.0,
    )
'''


def test_source_is_readable_and_holds_the_class_as_written():
    source = request_source(
        "flu_2026", TRAINING, model=models.FluPredictor, purpose="Predict influenza from symptoms at the visit."
    )
    assert source == EXPECTED


def test_helper_classes_and_imports_travel_helpers_first():
    source = request_source("health", TRAINING, model=models.HealthPredictor)
    tree = ast.parse(source)
    body = tree.body[0].body
    assert [node.name for node in body if isinstance(node, ast.ClassDef)] == ["Block", "HealthPredictor"]
    assert "    import math\n    import torch\n" in source
    assert "    from torch import nn\n" in source
    assert "    from torch.nn import functional as F\n" in source


def test_evaluation_and_statistics_name_only_what_differs_from_defaults():
    evaluation = Evaluation(loss="cross_entropy", epsilon=0.5, bins=30)
    source = request_source("flu_evaluation", evaluation, model=models.FluPredictor)
    assert (
        'return evaluate(FluPredictor, records, weights, round, loss="cross_entropy", epsilon=0.5, bins=30)' in source
    )
    queries = (
        Query("count"),
        Query("mean", ("temperature",)),
        Query("mean", ("age",)),
        Query("histogram", ("age",)),
        Query("quantiles", ("age",), (0.25, 0.5)),
        Query("crosstab", ("sex", "influenza")),
    )
    source = request_source("asked", Statistics(queries=queries, epsilon=0.2))
    assert source.startswith("def asked(records, round):\n")
    namespace: dict = {}
    call = ast.parse(source).body[0].body[-1].value
    for keyword in call.keywords:
        namespace[keyword.arg] = ast.literal_eval(keyword.value)
    assert namespace == {
        "count": True,
        "mean": ["temperature", "age"],
        "histogram": "age",
        "quantiles": {"age": [0.25, 0.5]},
        "crosstab": [("sex", "influenza")],
        "epsilon": 0.2,
    }


def test_a_constant_from_outside_the_class_goes_with_it():
    source = request_source("x", TRAINING, model=models.WithConstant)
    assert "    HIDDEN = 32\n" in source
    assert source.index("HIDDEN = 32") < source.index("class WithConstant")
    assert inspect_source(source).model == "WithConstant"


def test_a_value_from_outside_the_class_that_is_no_constant_is_refused_with_its_name():
    with pytest.raises(InvalidRequest, match="uses 'TABLE' from outside the class"):
        request_source("x", TRAINING, model=models.WithTable)


def test_a_function_from_outside_the_class_goes_with_what_it_uses():
    source = request_source("x", TRAINING, model=models.WithFunction)
    assert source.index("HIDDEN = 32") < source.index("def block(inputs)") < source.index("class WithFunction")
    assert inspect_source(source).model == "WithFunction"


def test_a_decorated_function_is_refused_with_its_name():
    with pytest.raises(InvalidRequest, match="cached is no plain function"):
        request_source("x", TRAINING, model=models.WithCached)


def test_numpy_is_refused_with_what_to_use():
    with pytest.raises(InvalidRequest, match="uses 'np', which no hospital has"):
        request_source("x", TRAINING, model=models.WithNumpy)


def test_an_analysis_without_a_model_is_one_call_that_is_read_back():
    declared = KaplanMeier(time="age", event="influenza", by="sex", until=90.0, epsilon=0.5)
    source = request_source("alive", declared, purpose="To see.")
    assert 'return kaplan_meier(\n        records, round,\n        time="age",\n' in source
    assert inspect_source(source).mechanism == declared
    assert inspect_source(source).model is None


def test_a_class_defined_inside_a_function_is_found():
    class Local(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.output = nn.Linear(10, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.output(x)

    source = class_source(Local)
    assert source.startswith("class Local(nn.Module):\n    def __init__")
    assert "import torch\n" in request_source("x", TRAINING, model=Local)


def test_a_class_defined_in_a_notebook_cell_is_found_again_after_it_was_redefined():
    # IPython compiles each cell under a file name of its own and registers the text with linecache.
    for number, width in enumerate((4, 7)):
        name = f"<ipython-input-{number}-cell>"
        cell = textwrap.dedent(f"""
            from torch import nn
            class Cell(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.output = nn.Linear({width}, 1)
                def forward(self, x):
                    return self.output(x)
        """)
        linecache.cache[name] = (len(cell), None, cell.splitlines(True), name)
        namespace = {"__name__": "__main__"}
        exec(compile(cell, name, "exec"), namespace)
        assert f"nn.Linear({width}, 1)" in class_source(namespace["Cell"])


def test_a_class_without_source_is_refused():
    made = type("Made", (nn.Module,), {})
    with pytest.raises(InvalidRequest, match="Made cannot be found"):
        class_source(made)


@pytest.mark.parametrize(
    ("study", "function"), [("flu-2026", "flu_2026"), ("Flu 2026: a", "flu_2026_a"), ("x", "x"), ("grippe é", "grippe")]
)
def test_function_name_comes_from_the_study(study, function):
    assert function_name(study) == function


@pytest.mark.parametrize("study", ["", "2026", "---", "class", "x" * 81])
def test_names_that_cannot_be_functions_are_refused(study):
    with pytest.raises(InvalidRequest, match="cannot name a function"):
        function_name(study)


@pytest.mark.parametrize("purpose", ['ends with "quotes"', '"""; import os', "back\\slash \\n", "two\nlines " * 30])
def test_a_purpose_stays_a_docstring_whatever_it_says(purpose):
    tree = ast.parse(request_source("x", TRAINING, model=models.FluPredictor, purpose=purpose))
    (function,) = tree.body
    assert [type(node) for node in function.body] == [
        ast.Expr,
        ast.ImportFrom,
        ast.ImportFrom,
        ast.ClassDef,
        ast.Return,
    ]
    said = " ".join(ast.get_docstring(function).split()).replace("'", '"')
    assert said == " ".join(purpose.split()).replace("'", '"')


def test_a_model_loaded_from_a_script_file_is_found(tmp_path):
    path = tmp_path / "study_file.py"
    path.write_text(
        "from torch import nn\n\n\nclass Small(nn.Linear):\n    def __init__(self):\n        super().__init__(10, 2)\n"
    )
    spec = importlib.util.spec_from_file_location("study_file", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert "super().__init__(10, 2)" in request_source("x", TRAINING, model=module.Small)


def test_cohorts_groups_and_descriptions_are_read_as_they_were_declared():
    columns = [f"column number {number}" for number in range(300)]
    for group_by in ("ward", ["ward", "sex"], {"age": [18, 65.5], "ward": []}, {"admitted": ["2025-11-01"]}):
        asked = Statistics(
            queries=(Query("count"), Query("missing", ("age",)), *(Query("describe", (name,)) for name in columns)),
            epsilon=0.5,
            where="age >= 65 and ward in ('icu', \"general\") and `heart rate` > 1.5",
            group_by=groupings_from(group_by),
        )
        source = request_source("asked", asked)
        assert inspect_source(source).mechanism == asked
        assert max(map(len, source.splitlines())) < 400
