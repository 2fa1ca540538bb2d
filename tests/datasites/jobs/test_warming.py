"""What a warm runner has imported, asked of a process that warmed up as its parent does: all it needs, no reader."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from datasites.engine.interpreter import forward
from datasites.jobs import child, warming
from datasites.jobs.warming import recurrent_graph
from policies.graph.exporter import export_source
from policies.graph.graphs import Graph
from tests.attacks.models.honest import HONEST

ROOT = Path(__file__).resolve().parents[3]
READERS = {
    "pandas", "pyarrow", "polars", "sqlalchemy", "sqlite3", "_sqlite3", "psycopg", "psycopg_binary", "dbm", "shelve",
    "openpyxl", "h5py", "xml", "pyexpat", "syft", "requests", "policies.graph.exporter",
}  # fmt: skip
# Torch imports them itself, at `import torch`, and nothing of ours does: `importlib.metadata`, with which torch looks
# for its plugins, reads lists of files with csv and archives with zipfile; `torch.serialization` imports tarfile.
OF_TORCH = {"csv", "_csv", "zipfile", "tarfile"}


def modules(program: str) -> list[str]:
    """What a fresh process has imported after a program."""
    program = (
        f"import json, sys, warnings; warnings.simplefilter('ignore')\n{program}\nprint(json.dumps([*sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def warmed() -> set[str]:
    """Modules of a runner's parent that is warm: the program that it is forked from, and its warm-up."""
    return set(modules("from datasites.jobs import warming, zygote; warming.warm_up('runner')"))


@pytest.fixture(scope="module")
def of_both() -> set[str]:
    """Modules of the zygote at the time of its forks."""
    return set(modules("from datasites.jobs import warming, zygote; warming.import_what_both_need()"))


@pytest.mark.process
def test_exporter_and_runner_have_in_common_what_neither_must_be_without(of_both: set[str], warmed: set[str]) -> None:
    """No exporter and no reader, which a runner has not; no training and no noise, which an exporter has not."""
    assert READERS & of_both == set()
    assert of_both <= warmed
    of_engine = {name for name in of_both if name.startswith("datasites.engine.")}
    # Of which the child makes mock rows, and cuts graphs: public facts alone.
    assert of_engine == {f"datasites.engine.{name}" for name in ("matrix", "mock_rows", "splitting")}
    assert not {
        name for name in of_both if name.split(".")[0] in ("opacus", "pydp", "llvmlite", "syft", "cryptography")
    }


@pytest.mark.process
def test_an_exporter_has_neither_training_nor_noise_nor_kernels() -> None:
    exporter = set(modules("from datasites.jobs import warming, zygote; warming.warm_up('exporter')"))
    assert "policies.graph.exporter" in exporter
    assert "networkx" not in {name.split(".")[0] for name in exporter}
    assert not {
        name for name in exporter if name.split(".")[0] in ("opacus", "pydp", "llvmlite", "syft", "cryptography")
    }
    assert not {"datasites.engine.training", "datasites.engine.noise", "datasites.engine.lanes"} & exporter


@pytest.mark.process
def test_a_runner_imports_of_opacus_what_takes_and_counts_steps(warmed: set[str]) -> None:
    """Its other accountants compute with scipy, which is thirty megabytes and half a second."""
    assert {"opacus.optimizers.optimizer", "opacus.accountants.rdp"} <= warmed
    assert not {name for name in warmed if name.split(".")[0] == "scipy"}
    assert not {"opacus.privacy_engine", "opacus.grad_sample"} & warmed


@pytest.mark.process
def test_a_runner_imports_no_reader_of_files_or_databases_and_no_exporter(warmed: set[str]) -> None:
    assert READERS & warmed == set()
    ours = {name for name in warmed if name.split(".")[0] in ("datasites", "policies")}
    assert {name.split(".")[1] for name in ours if name.startswith("datasites.")} == {"engine", "jobs"}


@pytest.mark.process
def test_what_reads_files_in_a_runner_is_torchs_own(warmed: set[str]) -> None:
    assert OF_TORCH & warmed <= set(modules("import torch"))
    for name in warmed:
        if name.startswith(("datasites.", "policies.")):
            assert not _imports(ROOT.joinpath(*name.split("."))) & (OF_TORCH | {"pickle"}), name


def _imports(path: Path) -> set[str]:
    """What a module of ours imports when it is imported itself."""
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    names: set[str] = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.split(".")[0] for name in names}


@pytest.mark.process
def test_whatever_a_job_imports_late_is_there_before_it_is_confined(warmed: set[str]) -> None:
    """A confined child opens no file: an import that is not there already would fail the round."""
    late: set[str] = set()
    for node in ast.walk(ast.parse(Path(str(child.__file__)).read_text())):
        if isinstance(node, ast.FunctionDef) and node.name != child.export.__name__:
            late |= {inner.module for inner in ast.walk(node) if isinstance(inner, ast.ImportFrom) and inner.module}
    assert late  # as `datasites.engine.training`
    assert late <= warmed


@pytest.mark.slow
def test_every_honest_model_trains_in_a_warm_runner_without_an_import(tmp_path: Path) -> None:
    """Those of the corpus that are exported here, run there: graph, gradients and optimizer as `train_round` has it."""
    graphs = []
    for shape, source in HONEST.values():
        name = [line for line in source.splitlines() if line.startswith("class ")][-1].split()[1].split("(")[0]
        header = "import math\nimport torch\nfrom torch import nn\nfrom torch.nn import functional as F\n"
        graphs.append(export_source(header + source, name, shape)[0].as_dict())
    (tmp_path / "graphs.json").write_text(json.dumps(graphs))
    program = (
        "import json, sys, torch\n"
        "from datasites.jobs import warming\n"
        "warming.warm_up('runner')\n"
        "from torch.func import grad, vmap\n"
        "from datasites.engine.interpreter import forward\n"
        "from datasites.engine.lanes.readiness import sums_for\n"
        "from policies.graph.graphs import Graph\n"
        "before, in_lanes = set(sys.modules), []\n"
        f"for data in json.load(open({str(tmp_path / 'graphs.json')!r})):\n"
        "    graph = Graph.from_dict(data)\n"
        "    run = forward(graph)\n"
        "    weights = {parameter.name: torch.zeros(parameter.shape) for parameter in graph.parameters}\n"
        "    records = torch.rand(3, *graph.input_shape)\n"
        "    vmap(grad(lambda w, r: run(w, r).square().sum()), in_dims=(None, 0))(weights, records)\n"
        "    outputs = graph.output_shape\n"
        "    loss = 'binary_cross_entropy_with_logits' if outputs in ((), (1,)) else 'cross_entropy'\n"
        "    in_lanes.append(sums_for(graph, loss, 2, 1.0, 64.0) is not None)\n"
        "print(json.dumps([sorted(set(sys.modules) - before), sum(in_lanes)]))\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    imported, in_lanes = json.loads(done.stdout)
    assert imported == []
    # On a processor with kernels all of them train in lanes; on one without, none does.
    assert in_lanes in (0, len(graphs))


@pytest.mark.slow
def test_every_honest_model_is_exported_in_a_warm_exporter_without_what_was_left_out(tmp_path: Path) -> None:
    """There it could not be imported late; and exporting is the same as with it."""
    header = "import math\nimport torch\nfrom torch import nn\nfrom torch.nn import functional as F\n"
    sources = []
    for shape, source in HONEST.values():
        name = [line for line in source.splitlines() if line.startswith("class ")][-1].split()[1].split("(")[0]
        sources.append((header + source, name, shape))
    (tmp_path / "sources.json").write_text(json.dumps(sources))
    program = (
        "import json\n"
        "from datasites.jobs import warming\n"
        "warming.warm_up('exporter')\n"
        "from policies.graph.exporter import export_source\n"
        f"sources = json.load(open({str(tmp_path / 'sources.json')!r}))\n"
        "graphs = [export_source(source, name, tuple(shape))[0].as_dict() for source, name, shape in sources]\n"
        f"json.dump(graphs, open({str(tmp_path / 'graphs.json')!r}, 'w'))"
    )
    assert not {name for name in modules(program) if name.split(".")[0] == "networkx"}
    exported = json.loads((tmp_path / "graphs.json").read_text())
    whole = [export_source(source, name, shape)[0].as_dict() for source, name, shape in sources]
    assert exported == json.loads(json.dumps(whole))


@pytest.mark.process
def test_a_runner_has_trained_both_ways_before_its_first_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that whatever a graph comes to, nothing is imported or called first in a confined child."""
    from datasites.engine import evaluation, training
    from datasites.engine.lanes import readiness

    done: list[str] = []
    monkeypatch.setattr(readiness, "prepare", lambda *_: done.append("prepared"))
    monkeypatch.setattr(training, "train_round", lambda *_: done.append("trained") or {})
    monkeypatch.setattr(evaluation, "score_histogram", lambda *_: done.append("scored") or {})
    monkeypatch.setattr("datasites.engine.constant_time.install", lambda: None)
    warming._warm_runner()
    assert done == ["trained", "trained", "scored", "prepared", "trained", "scored"]


@pytest.mark.process
def test_a_runner_loads_machine_code_and_no_compiler(warmed: set[str]) -> None:
    assert "datasites.engine.lanes.compiled" in warmed
    assert not {name for name in warmed if name.startswith(("numba", "datasites.engine.lanes.kernels"))}


def test_the_warm_models_graph_computes_what_its_model_does() -> None:
    """So that what is run once is what a researcher's recurrent model will run."""
    import torch
    from torch import nn

    made: dict[str, Any] = {}
    exec(warming.MODEL, made)
    torch.manual_seed(3)
    model: nn.Module = made["Warm"]()
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    own = dict(model.named_parameters())
    weights = {
        "input": own["lstm.weight_ih_l0"],
        "hidden": own["lstm.weight_hh_l0"],
        "bias": own["lstm.bias_ih_l0"] + own["lstm.bias_hh_l0"],
        **{name: own[name] for name in ("norm.weight", "norm.bias", "out.weight", "out.bias")},
    }
    record = torch.randn(4, 2)
    graph = recurrent_graph(steps=4)
    with torch.no_grad():
        assert torch.allclose(forward(graph)(weights, record), model(record.unsqueeze(0)).squeeze(0), atol=1e-6)
    assert Graph.from_dict(graph.as_dict()) == graph
