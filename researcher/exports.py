"""A result as one file: weights, the model as ONNX, a model card, or a bundle that gives the figures again.

Everything here is made of releases and of what was public before, so writing and sharing it costs no budget.
"""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from policies.errors import InvalidRequest, WrongStatus
from policies.privacy.mechanisms import DPSGD, Evaluation, mechanism_from
from policies.privacy.parts import part_sentences
from policies.privacy.risk import CAVEATS
from policies.privacy.sharing import shared_of
from policies.release.tensors import to_bytes
from policies.text import visible
from researcher.shared_noise import charged_words
from researcher.state import Tensors, replace_file
from researcher.weight_files import LARGEST

KINDS = (".safetensors", ".onnx", ".md", ".zip")
MOST_FILES = 100_000
MADE_UP = 3  # records on which a file of ONNX is held against the model


class Result(Protocol):
    """As much of `researcher.results.Result` as is written here."""

    name: str
    weights: Tensors
    constants: Tensors
    rounds: Sequence[Any]
    evaluation: Any
    study: Any

    def to_model(self) -> Any: ...
    @property
    def certificates(self) -> list[dict[str, Any]]: ...
    def save(self, path: str | Path) -> Path: ...


TO_FILL_IN = "*To be written by who publishes this model.*"


def is_export(path: Path) -> bool:
    """Whether a result is to be written as one file."""
    return path.suffix in KINDS


def export(result: Result, path: Path) -> Path:
    """Write a result as the kind of file that `path` names. Raises `InvalidRequest` where it cannot be written."""
    try:
        replace_file(path, _MAKERS[path.suffix](result))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidRequest(f"{path} cannot be written: {why}. Name another file.") from None
    return path


def _weights(result: Result) -> bytes:
    """All of the model's parameters, frozen ones too, as `model.load_state_dict` takes them."""
    return to_bytes({**result.weights, **result.constants})


def _onnx(result: Result) -> bytes:
    """The model with its released weights, as it is given records; nothing else of the study."""
    from researcher.onnx_files import onnx_bytes

    if result.study is None:
        raise WrongStatus(
            "This result was loaded from disk, without its model. Ask study.run(), at no cost, or save it as"
            " .safetensors."
        )
    schema, inputs = result.study.cohort.schema, result.study.training.inputs
    tensor = schema.tensor_of(inputs)
    shape = (MADE_UP, *schema.input_shape(inputs))
    records = (
        np.random.default_rng(0).uniform(-1, 1, shape) if tensor is None else tensor.scaled(tensor.draw_mock(MADE_UP))
    )
    return onnx_bytes(result.to_model(), records.astype(np.float32))


def model_card(result: Result) -> str:
    """What the model was trained on, at which ε, how it was scored, and what people have to fill in, as Markdown.

    Every figure is of certificates and releases. Words of others are shown as plain text.
    """
    certificates = [certificate for certificate in result.certificates if "mechanism" in certificate]
    trained = [one for one in certificates if isinstance(mechanism_from(one["mechanism"]), DPSGD)]
    parts = [
        f"# {_plain(result.name)}",
        "## Intended use",
        TO_FILL_IN + " For whom, for which decision, and for which patients it is not meant.",
        "## Data",
        _data(trained),
        "## Privacy",
        _privacy(certificates),
        "## Training",
        _training(result, trained),
        "## Evaluation",
        _evaluation(result),
        "## Limits",
        TO_FILL_IN + " What it was not tested on; how it fails.",
    ]
    return "\n\n".join(parts) + "\n"


def _plain(value: object) -> str:
    """Somebody's words in a line of Markdown that cannot be anything but words."""
    text = visible(" ".join(str(value).split()))[:300]
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|!" else letter for letter in text)


def _data(trained: list[dict[str, Any]]) -> str:
    rows = {
        f"| {_plain(one['datasite'])} | {_plain(one['dataset'])} | {one['size']['patients']:,}"
        f" ({'as declared' if one['size']['kind'] == 'declared' else 'a differentially private count'}) |"
        for one in trained
    }
    return "\n".join(["| hospital | dataset | patients |", "| --- | --- | --- |", *sorted(rows)])


def _privacy(certificates: list[dict[str, Any]]) -> str:
    rows = {
        f"| {_plain(one['datasite'])} | {_plain(one['function'])} | {one['privacy']['epsilon']:.4g}"
        f" | {one['privacy']['delta']:g} | {one['rounds']} |"
        for one in certificates
    }
    table = ["| hospital | request | ε | δ | rounds |", "| --- | --- | --- | --- | --- |", *sorted(rows)]
    words = (
        "Each ε is of all rounds of a request by themselves. The unit of privacy is a patient with all their records;"
        " neighbouring data differ by one patient added or removed."
    )
    return "\n".join([words, "", *table, "", *(f"* {caveat}" for caveat in CAVEATS)])


def _training(result: Result, trained: list[dict[str, Any]]) -> str:
    lines = [
        f"* {len(result.rounds)} federated rounds; {sum(value.size for value in result.weights.values()):,} numbers."
    ]
    declared = {json.dumps(one["declared"], sort_keys=True) for one in trained}
    for text in sorted(declared):
        mechanism = mechanism_from(json.loads(text))
        assert isinstance(mechanism, DPSGD)
        lines.append(
            f"* Loss {mechanism.loss}, {mechanism.steps} steps a round, sampling rate {mechanism.sampling_rate:g},"
            f" clipping norm {mechanism.clipping_norm:g}, {mechanism.optimizer} at {mechanism.learning_rate:g}."
        )
        first, public = mechanism.initial, mechanism.public_weights
        said = part_sentences(frozen=mechanism.frozen, local=mechanism.local, public_weights=public, initial=first)
        lines += [f"* {_plain(sentence)}" for sentence in said]
    return "\n".join(lines)


def _evaluation(result: Result) -> str:
    scored = result.evaluation
    if scored is None:
        return "It was not scored. `result.evaluate()` does, where hospitals approved an evaluation."
    mechanism: Evaluation = scored.mechanism
    words = (
        f"On held-out patients, by noisy tables at ε = {mechanism.epsilon:g} a hospital; intervals are of 95 % and hold"
        " the noise."
    )
    if shared_of(mechanism) is not None:
        words += f" {charged_words(mechanism, scored.releases)}"
    tables = [_table(scored.table.rows)]
    if scored.subgroups:
        tables += ["By subgroup:", _table(scored.subgroup_table.rows)]
    return "\n\n".join([words, *tables])


def _table(rows: Any) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(map(_plain, names)) + " |", "|" + " --- |" * len(names)]
    lines += ["| " + " | ".join(_plain(row.get(name, "")) for name in names) + " |" for row in rows]
    return "\n".join(lines)


RECOMPUTE = """\
What is here: the model (`weights.safetensors`), every hospital's release beside its signed certificate (`releases/`),
how each round was closed (`result.json`), and a model card (`card.md`). To check and to compute every figure again:

    import researcher
    result = researcher.load("{name}")      # this file
    print(result.evaluation)                # from the released tables, which are in releases/

    unzip {name} -d bundle && python -m researcher verify bundle/releases/*.certificate.json
"""


def _bundle(result: Result, name: str = "bundle.zip") -> bytes:
    """What `save` writes into a directory, with a card and what to do with it. Equal results give equal bytes."""
    buffer = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        saved = result.save(Path(folder) / "result")
        (saved / "card.md").write_text(model_card(result), encoding="utf-8")
        (saved / "README.md").write_text(RECOMPUTE.format(name=name), encoding="utf-8")
        for path in sorted(saved.rglob("*")):
            if path.is_file():
                member = zipfile.ZipInfo(path.relative_to(saved).as_posix())
                archive.writestr(member, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def unpacked(path: Path, folder: Path) -> Path:
    """A bundle's files in `folder`. Raises `InvalidRequest` where it is none, or would write elsewhere or too much.

    A bundle may be a stranger's: names that lead out of the folder and sizes beyond any model are refused.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            size = sum(member.file_size for member in members)
            if len(members) > MOST_FILES or size > 64 * LARGEST:
                raise InvalidRequest(
                    f"{path} unpacks to {size:,} bytes in {len(members):,} files, which no result has."
                )
            for member in members:
                target = (folder / member.filename).resolve()
                if not target.is_relative_to(folder.resolve()):
                    raise InvalidRequest(f"{path} names {member.filename[:80]!r}, which lies outside of it.")
                archive.extract(member, folder)
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise InvalidRequest(f"{path} is no bundle that result.save(...) wrote ({type(error).__name__}).") from None
    return folder


_MAKERS: Mapping[str, Any] = {
    ".safetensors": _weights,
    ".onnx": _onnx,
    ".md": lambda result: model_card(result).encode(),
    ".zip": _bundle,
}
