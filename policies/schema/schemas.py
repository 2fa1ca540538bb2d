"""What a table holds, as its owner declares it: the public half of a dataset.

A `Schema` is read from a `schema.toml` like this one, and is published with the dataset. Bounds and categories are
typed by the owner and never taken from the data; models get features scaled by them. Reading tables is in
the datasite's vault, with drawing mocks; one column's arithmetic is in `policies.schema.columns`, and targets that are
no class, as a time with an event, in `policies.schema.targets`; tensors beside a table in `policies.schema.tensors`.

    name = "flu"                        # the dataset
    population = "general-hospital"     # the patients; every table about them shares one budget
    description = "Visits for fever, winter 2025/26"
    patient = "patient_id"              # identifies a patient; never a feature and never published
    target = "influenza"                # optional; a boolean, a category or a number; several booleans as a list
    holdout = 0.2                       # share of patients kept for evaluation, 0 to 0.5
    most_records_per_patient = 1000     # publishing keeps as many of a patient, drawn at random; 1000 if left out

    [columns.age]
    kind = "integer"                    # real, integer, boolean, category, date or datetime
    unit = "years"
    minimum = 0                         # all but booleans and categories need both bounds
    maximum = 110
    outside = "clamp"                   # or "refuse", the default: what publishing does outside the bounds
    description = "Age at the visit"

    [columns.temperature_1]
    kind = "real"
    unit = "°C"
    minimum = 34.0
    maximum = 42.0
    missing = {constant = 37.0, indicator = true}   # or "refuse", the default

    [columns.temperature_2]
    kind = "real"
    unit = "°C"
    minimum = 34.0
    maximum = 42.0
    missing = {constant = 37.0, indicator = true}

    [columns.ward]
    kind = "category"
    categories = ["emergency", "general", "intensive"]

    [columns.admitted]
    kind = "date"
    minimum = 2025-10-01                # a date's bounds are dates
    maximum = 2026-04-30
    feature = false                     # not among the "features"; statistics, sequences may still read it

    [columns.influenza]
    kind = "boolean"

    [sequences]
    fever = ["temperature_1", "temperature_2"]      # one channel; or steps of several, [["t1", "p1"], ["t2", "p2"]]

    [transformations]                   # terms (see `schema.terms`); among the "features", after the columns
    age_bands = "bands(age, 18, 40, 65)"
    season = {term = "yearly(admitted)", feature = false}   # a name that a researcher may use, no more
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from policies.errors import DataRefused, UnsupportedMechanism
from policies.privacy.mechanisms import DPSGD, Evaluation, Query
from policies.privacy.outcomes import Outcome, outcome_of
from policies.schema import targets as outcome_targets
from policies.schema import toml
from policies.schema.as_written import USUAL_FILE, FileFormat, check_header, check_words, normal_header
from policies.schema.columns import KINDS, BoolArray, Column, FloatArray, IntArray, check_name, check_text, is_number
from policies.schema.inputs import ModelInputs, model_inputs
from policies.schema.targets import Float32Array, Target, TimeToEvent, check_target, columns_of
from policies.schema.tensors import MOST_TENSORS, Tensor
from policies.schema.terms import is_plain, words_of
from policies.schema.transformations import FUNCTIONS

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["HELD_OUT", "KINDS", "STATISTICS_OF", "Column", "Schema", "Transformation"]

HELD_OUT = "held_out"
FIRST_COLUMN = 2  # of the private matrix: patient code and hold-out flag come before it
MOST_COLUMNS = 500
MOST_CELLS = 1_000_000
LARGEST_HOLDOUT = 0.5
MOST_RECORDS_PER_PATIENT = 1_000  # unless a schema says otherwise,
LARGEST_MOST_RECORDS = 10_000  # up to which a patient's records take no time that anybody could see

MOST_TRANSFORMATIONS = 200

STATISTICS_OF = {
    "real": ("sum", "mean", "variance", "quantiles", "histogram", "crosstab", "missing", "describe"),
    "integer": ("sum", "mean", "variance", "quantiles", "histogram", "crosstab", "missing", "describe"),
    "boolean": ("sum", "mean", "histogram", "crosstab", "missing", "describe"),
    "category": ("histogram", "crosstab", "missing", "describe"),
    "date": ("mean", "quantiles", "histogram", "crosstab", "missing", "describe"),
    "datetime": ("mean", "quantiles", "histogram", "crosstab", "missing", "describe"),
}

Sequence = tuple[str, tuple[tuple[str, ...], ...]]


@dataclass(frozen=True, kw_only=True)
class Transformation:
    """A term that an owner declares by name, and whether it is among a model's `"features"`."""

    name: str
    term: str
    feature: bool = True


@dataclass(frozen=True, kw_only=True)
class Schema:
    """A dataset's public declaration.

    The private matrix that goes with it is float64 [N, 2 + C]: patient code, hold-out flag, then `columns` in order,
    in matrix units (see `schema.columns`). The mock has the same layout. Every array below is finite and inside
    public bounds whatever stands in the matrix.

    Args:
      name: of the dataset.
      population: the patients who share one budget.
      patient: header of the column that identifies a patient; not one of `columns`.
      target: a column without missing values, several booleans, a `TimeToEvent`, or None: see `schema.targets`.
      holdout: share of patients kept for evaluation, 0 to 0.5.
      most_records_per_patient: 1 to 10,000. Publishing keeps as many of each patient, a secret uniform sample: how long
        a round takes could tell of a patient who has a million.
      columns: 1 to 500, the target included.
      sequences: name and steps of each, every step as many columns as the others.
      tensors: what a record has beside the matrix, as an image; at most 8.
      transformations: terms of columns by name, at most 200.
      missing_values: texts that stand for a missing cell in every column that has none of its own.
      patient_header: the table's header of the patient column, where it is not the name.
      file: how the table's file is laid out.

    Raises:
      DataRefused: something is missing, unsafe or does not fit together.
    """

    name: str
    population: str
    patient: str
    columns: tuple[Column, ...]
    description: str = ""
    target: Target = None
    holdout: float = 0.0
    most_records_per_patient: int = MOST_RECORDS_PER_PATIENT
    sequences: tuple[Sequence, ...] = ()
    missing_values: tuple[str, ...] = ()
    patient_header: str = ""
    file: FileFormat = USUAL_FILE
    tensors: tuple[Tensor, ...] = ()
    transformations: tuple[Transformation, ...] = ()

    def __post_init__(self) -> None:
        check_name("dataset", self.name)
        check_name("population", self.population)
        check_name("patient column", self.patient)
        check_text("description", self.description, most=2000, lines=True)
        if not is_number(self.holdout) or not 0 <= self.holdout <= LARGEST_HOLDOUT:
            raise DataRefused(f"holdout={self.holdout!r} is outside [0, {LARGEST_HOLDOUT}]. Write 0.2, or 0 for none.")
        most = self.most_records_per_patient
        if type(most) is not int or not 1 <= most <= LARGEST_MOST_RECORDS:
            raise DataRefused(
                f"most_records_per_patient={most!r} is not a whole number in [1, {LARGEST_MOST_RECORDS}]. Write 1000."
            )
        if not 1 <= len(self.columns) <= MOST_COLUMNS:
            raise DataRefused(
                f"{len(self.columns)} columns are outside [1, {MOST_COLUMNS}]. Declare those that matter."
            )
        names = [column.name for column in self.columns]
        for name in (self.patient, HELD_OUT):
            if name in names:
                raise DataRefused(f"{name!r} cannot be a declared column: it stands for the patient or the hold-out.")
        if len(set(names)) != len(names):
            raise DataRefused("A column is declared twice. Declare each once.")
        self._check_target(names)
        self._check_sequences(names)
        self._check_tensors(names)
        self._check_transformations(names)
        check_words("missing_values", self.missing_values)
        check_header("patient_header", self.patient_header)
        self._check_headers()

    def _check_headers(self) -> None:
        headers = [normal_header(header) for header in self.headers.values()]
        for header in headers:
            if headers.count(header) > 1:
                raise DataRefused(f"Two columns are read from the header {header!r}. Give each its own header.")

    def _check_target(self, names: list[str]) -> None:
        for name in self.target_columns:
            if name not in names:
                raise DataRefused(f"target={name!r} is not a declared column. Declare [columns.{name}].")
        check_target(self.target, self.column)

    def _check_tensors(self, names: list[str]) -> None:
        if len(self.tensors) > MOST_TENSORS:
            raise DataRefused(f"{len(self.tensors)} tensors are above {MOST_TENSORS}. Declare those that matter.")
        taken = {"features", self.patient, HELD_OUT, *names, *(name for name, _ in self.sequences)}
        for tensor in self.tensors:
            if tensor.name in taken:
                raise DataRefused(f"Tensor {tensor.name!r} has the name of something else. Choose another.")
            taken.add(tensor.name)

    def _check_sequences(self, names: list[str]) -> None:
        taken = {"features", *names}
        for name, steps in self.sequences:
            check_name("sequence", name)
            if name in taken:
                raise DataRefused(f"Sequence {name!r} has the name of something else. Choose another.")
            taken.add(name)
            if not steps or not all(steps):
                raise DataRefused(f"Sequence {name!r} has no columns. List its steps in order.")
            for column in (name for step in steps for name in step):
                if column not in names or column in self.target_columns:
                    raise DataRefused(f"Sequence {name!r} names {column!r}, which is not a declared feature column.")
            if len({tuple(len(self.column(name).input_names) for name in step) for step in steps}) > 1:
                raise DataRefused(f"Sequence {name!r} has steps of different widths. Give every step columns alike.")

    def _check_transformations(self, names: list[str]) -> None:
        if len(self.transformations) > MOST_TRANSFORMATIONS:
            raise DataRefused(
                f"{len(self.transformations)} transformations are above {MOST_TRANSFORMATIONS}. Declare fewer."
            )
        taken = {"features", self.patient, HELD_OUT, *names, *(name for name, _ in self.sequences)}
        for transformation in self.transformations:
            check_name("transformation", transformation.name)
            if transformation.name in taken:
                raise DataRefused(f"Transformation {transformation.name!r} has the name of something else.")
            taken.add(transformation.name)
            if is_plain(transformation.term):
                raise DataRefused(
                    f"Transformation {transformation.name!r} is {transformation.term[:80]!r}, a column as it is. "
                    f"Write a function, as {FUNCTIONS['bands'].usage}, or a product, as age * ward."
                )
            try:
                self._model_inputs((transformation.term,))
            except UnsupportedMechanism as refusal:
                raise DataRefused(f"Transformation {transformation.name!r}: {refusal}") from None
        try:
            if any(transformation.feature for transformation in self.transformations):
                self.input_names("features")
        except UnsupportedMechanism as refusal:
            raise DataRefused(f"The features do not go together: {refusal}") from None

    @classmethod
    def from_toml(cls, text: str) -> Schema:
        """The schema in the text of a `schema.toml`. Raises `DataRefused` naming table, value, bound, next step."""
        return cls.from_dict(toml.read(text))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Schema:
        """The schema that `as_dict` wrote, also after a trip through JSON, checked anew. Raises `DataRefused`."""
        fields = toml.checked_fields(data)
        columns = tuple(Column(**column) for column in fields.pop("columns"))
        transformations = tuple(Transformation(**fields) for fields in fields.pop("transformations"))
        return cls(columns=columns, transformations=transformations, **fields)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; it holds what the owner declared and nothing else.

        What came later is left out where it is as usual, so that such a schema is what it was before.
        """
        usual = self.most_records_per_patient == MOST_RECORDS_PER_PATIENT
        later = {
            "missing_values": list(self.missing_values),
            "patient_header": self.patient_header,
            "file": self.file.as_dict(),
        }
        return {
            **{name: getattr(self, name) for name in toml.TOP},
            "target": outcome_targets.plain(self.target),
            **({} if usual else {toml.MOST_RECORDS: self.most_records_per_patient}),
            **{name: value for name, value in later.items() if value},
            **({"tensors": {tensor.name: tensor.as_dict() for tensor in self.tensors}} if self.tensors else {}),
            "columns": [column.as_dict() for column in self.columns],
            "sequences": {name: [list(step) for step in steps] for name, steps in self.sequences},
            **({toml.TRANSFORMATIONS: list(map(asdict, self.transformations))} if self.transformations else {}),
        }

    def to_toml(self) -> str:
        """The text of a `schema.toml` from which `from_toml` makes an equal schema."""
        return toml.write(self.as_dict())

    def column(self, name: str) -> Column:
        """The declared column of that name. Raises `UnsupportedMechanism` where there is none."""
        return self.columns[self._position(name)]

    def _position(self, name: str) -> int:
        for position, column in enumerate(self.columns):
            if column.name == name:
                return position
        raise UnsupportedMechanism(
            f"{name!r} is not a column of {self.name!r}. It has {', '.join(column.name for column in self.columns)}."
        )

    def raw(self, matrix: npt.ArrayLike, name: str) -> FloatArray:
        """A column's cells as they lie in the matrix, float64 [N]: NaN where one is missing."""
        cells = np.asarray(matrix)
        wanted = FIRST_COLUMN + len(self.columns)
        if cells.ndim != 2 or cells.shape[1] != wanted:
            # The number of rows is private, so it is not in the message.
            raise DataRefused(f"A matrix of {self.name!r} has {wanted} columns: patient, hold-out and those declared.")
        return np.asarray(cells[:, FIRST_COLUMN + self._position(name)], dtype=np.float64)

    @property
    def headers(self) -> dict[str, str]:
        """The table's header of the patient column and of every declared one, by name."""
        columns = {column.name: column.header or column.name for column in self.columns}
        return {self.patient: self.patient_header or self.patient, **columns}

    def words_for_missing(self, column: Column) -> tuple[str, ...]:
        """Texts that stand for a missing cell of a column."""
        return self.missing_values if column.missing_values is None else column.missing_values

    @property
    def matrix_columns(self) -> tuple[str, ...]:
        """Headers of the matrix: the patient column, `held_out`, then every declared column."""
        return (self.patient, HELD_OUT, *(column.name for column in self.columns))

    @property
    def target_columns(self) -> tuple[str, ...]:
        """The columns of the target, in order; none where the schema has no target."""
        return columns_of(self.target)

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels of the target: of several booleans their names, of numbers and times none.

        Raises `UnsupportedMechanism` where the schema has no target.
        """
        if self.target is None:
            raise self._no_target()
        if isinstance(self.target, TimeToEvent):
            return ()
        return self.target if isinstance(self.target, tuple) else self.column(self.target).labels

    def predicting(self, mechanism: DPSGD | Evaluation) -> Schema:
        """This schema with the target that a mechanism names; itself where it names none.

        What was the target is then no feature: a model that should read it names it among its inputs.

        Raises:
          UnsupportedMechanism: the target cannot be predicted with that loss, or from these columns.
        """
        named, schema = mechanism.target, self
        if isinstance(self.target, TimeToEvent) and named is None and mechanism.horizon is not None:
            named = self.target_columns
        if named is not None:
            target: Target = named
            try:
                if outcome_of(mechanism.loss) is Outcome.TIME:
                    time, event = tuple(named)
                    target = TimeToEvent(time=time, event=event, horizon=float(mechanism.horizon or 0))
                former = {name: replace(self.column(name), feature=False) for name in self.target_columns}
                columns = tuple(former.get(column.name, column) for column in self.columns)
                schema = self if target == self.target else replace(self, target=target, columns=columns)
            except DataRefused as refused:
                raise UnsupportedMechanism(f"target={named!r} does not fit {self.name!r}. {refused}") from None
        if schema.target is None:
            raise self._no_target()
        outcome_targets.check_outcome(schema.target, outcome_of(mechanism.loss), mechanism.loss, schema.column)
        return schema

    def _no_target(self) -> UnsupportedMechanism:
        return UnsupportedMechanism(f"{self.name!r} has no target to train or evaluate on. Ask for statistics.")

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the inputs of `"features"`: one-hot above two categories, with indicators."""
        return self.input_names("features")

    def input_names(self, inputs: str | tuple[str, ...] = "features") -> tuple[str, ...]:
        """Names of a model's inputs, in order; of one step after the other for a sequence."""
        if (terms := self._terms(inputs)) is not None:
            return terms.names
        return tuple(name for column in self.input_columns(inputs) for name in self.column(column).input_names)

    def input_columns(self, inputs: str | tuple[str, ...] = "features") -> tuple[str, ...]:
        """The columns that a model's inputs are made of, in order; those of one step after the other for a sequence."""
        if (terms := self._terms(inputs)) is not None:
            return terms.columns
        return tuple(column for step in self._steps(inputs) for column in step)

    def has_terms(self, inputs: str | tuple[str, ...] = "features") -> bool:
        """Whether some inputs are transformations of columns, and not columns as they are."""
        return self._terms(inputs) is not None

    def input_words(self, inputs: str | tuple[str, ...] = "features") -> str:
        """What a model's inputs are made of, in plain words."""
        if (tensor := self.tensor_of(inputs)) is not None:
            return f"the tensor {tensor.name}"
        if self._is_sequence(inputs):
            return words_of(inputs)
        return words_of(self._steps(inputs)[0])

    def input_shape(self, inputs: str | tuple[str, ...] = "features") -> tuple[int, ...]:
        """Shape of one record: (features,), (steps, channels) for a sequence, or a tensor's own.

        Raises `UnsupportedMechanism`.
        """
        if (tensor := self.tensor_of(inputs)) is not None:
            return tensor.shape
        steps = self._steps(inputs)
        width = len(self.input_names(inputs)) // len(steps)
        return (len(steps), width) if self._is_sequence(inputs) else (width,)

    def tensor_of(self, inputs: str | tuple[str, ...]) -> Tensor | None:
        """The tensor that inputs name; None where they are columns. Raises `UnsupportedMechanism` for both at once."""
        named = (inputs,) if isinstance(inputs, str) else inputs
        tensors = [tensor for tensor in self.tensors if tensor.name in named]
        if tensors and len(named) > 1:
            raise UnsupportedMechanism(
                f"inputs={inputs!r} names the tensor {tensors[0].name!r} beside others. A model takes a tensor alone:"
                f" write inputs={tensors[0].name!r}."
            )
        return tensors[0] if tensors else None

    def _is_sequence(self, inputs: str | tuple[str, ...]) -> bool:
        return isinstance(inputs, str) and inputs != "features"

    def _steps(self, inputs: str | tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
        """Columns, and texts of terms, of each step; none of a tensor."""
        if self.tensor_of(inputs) is not None:
            return ()
        if inputs == "features":
            chosen = [
                column.name for column in self.columns if column.feature and column.name not in self.target_columns
            ]
            chosen += [declared.term for declared in self.transformations if declared.feature]
            if not chosen:
                raise UnsupportedMechanism(f"{self.name!r} has no feature columns. Name columns as inputs=(...).")
            return (tuple(chosen),)
        if isinstance(inputs, str):
            for name, steps in self.sequences:
                if name == inputs:
                    return steps
            named = [*(name for name, _ in self.sequences), *(tensor.name for tensor in self.tensors)]
            known = ", ".join(["features", *named])
            raise UnsupportedMechanism(
                f"inputs={inputs[:80]!r} is not known. Use one of {known}, or a tuple of columns and terms."
            )
        if not inputs or set(self.target_columns) & set(inputs) or len(set(inputs)) != len(inputs):
            raise UnsupportedMechanism(f"inputs={inputs!r} should name columns once each, without the target.")
        declared = {transformation.name: transformation.term for transformation in self.transformations}
        for name in inputs:
            if name not in declared and is_plain(name):
                self._position(name)
        return (tuple(declared.get(name, name) for name in inputs),)

    def _terms(self, inputs: str | tuple[str, ...]) -> ModelInputs | None:
        """The inputs as terms; None where all are columns."""
        if self._is_sequence(inputs) or self.tensor_of(inputs) is not None:
            return None
        (texts,) = self._steps(inputs)
        return None if all(is_plain(text) for text in texts) else self._model_inputs(texts)

    def _model_inputs(self, texts: tuple[str, ...]) -> ModelInputs:
        """Over all columns but the target. Raises `UnsupportedMechanism`."""
        columns = {column.name: column for column in self.columns if column.name not in self.target_columns}
        return model_inputs(texts, columns)

    def inputs(self, matrix: npt.ArrayLike, inputs: str | tuple[str, ...] = "features") -> npt.NDArray[np.float32]:
        """A model's inputs, float32 [N, *input_shape(inputs)] in [-1, 1]: filled, clamped, scaled by public bounds.

        Of columns; tensors lie beside the matrix, and `Tensor.scaled` makes inputs of them.
        """
        if self.tensor_of(inputs) is not None:
            raise UnsupportedMechanism(f"inputs={inputs!r} is a tensor, which lies beside the matrix.")
        if (terms := self._terms(inputs)) is not None:
            return terms.values({name: self.raw(matrix, name) for name in terms.columns})
        shape = self.input_shape(inputs)
        blocks = [self.column(name).scaled(self.raw(matrix, name)) for step in self._steps(inputs) for name in step]
        flat = np.concatenate(blocks, axis=1)
        return flat.reshape(len(flat), *shape)

    def targets(self, matrix: npt.ArrayLike) -> IntArray:
        """Class index of each record, int64 [N] in [0, len(classes))."""
        if self.target is None:
            raise self._no_target()
        if not isinstance(self.target, str) or not self.column(self.target).labels:
            raise UnsupportedMechanism(f"The target of {self.name!r} has no classes.")
        return self.values(matrix, self.target).astype(np.int64)

    def target_values(self, matrix: npt.ArrayLike, outcome: Outcome) -> Float32Array:
        """A target that is no class, float32 [N, target columns]: see `schema.targets.values_of`."""
        columns = [(self.column(name), self.raw(matrix, name)) for name in self.target_columns]
        return outcome_targets.values_of(outcome, columns)

    def values(self, matrix: npt.ArrayLike, column: str) -> FloatArray:
        """A column in matrix units, float64 [N], filled and clamped to its [low, high]."""
        return self.column(column).natural(self.raw(matrix, column))

    def present(self, matrix: npt.ArrayLike, column: str) -> BoolArray:
        """Where a column has a value, bool [N]: what fills the others is a constant, and counts for nothing."""
        return np.isfinite(self.raw(matrix, column))

    def cells(self, column: str, bins: int) -> tuple[tuple[str, ...], FloatArray | None]:
        """Public cells of a column: labels and, for numeric kinds, the edges in matrix units. See `Column.cells`."""
        return self.column(column).cells(bins)

    def cell_index(self, matrix: npt.ArrayLike, column: str, bins: int) -> IntArray:
        """Index of each record's cell, int64 [N]."""
        return self.column(column).cell_index(self.raw(matrix, column), bins)

    def check_query(self, query: Query) -> None:
        """Raise `UnsupportedMechanism`, naming the column and what can be asked of it, unless `query` makes sense."""
        for name in query.columns:
            kind = self.column(name).kind
            if query.name not in STATISTICS_OF[kind]:
                raise UnsupportedMechanism(
                    f"{query.name} of {name!r} cannot be asked: it is {kind}. Ask for {', '.join(STATISTICS_OF[kind])}."
                )
        if len(set(query.columns)) != len(query.columns):
            raise UnsupportedMechanism(f"{query.key} names a column twice. Name two different ones.")

    def frame(self, matrix: npt.ArrayLike) -> pd.DataFrame:
        """The matrix as people read it: labels, dates and numbers, with missing cells left missing."""
        import pandas as pd

        cells = np.asarray(matrix, dtype=np.float64)
        series: dict[str, Any] = {self.patient: cells[:, 0].astype(np.int64), HELD_OUT: cells[:, 1] > 0}
        for column in self.columns:
            series[column.name] = _readable(column, self.raw(cells, column.name))
        return pd.DataFrame(series)


def _readable(column: Column, raw: FloatArray) -> Any:
    """A pandas array of a column's natural values, NA where the cell is not finite."""
    import pandas as pd

    missing = ~np.isfinite(raw)
    values = column.natural(raw)
    if column.kind == "real":
        return np.where(missing, np.nan, values)
    if column.kind == "category":
        codes = np.where(missing, -1, values).astype(np.int64)
        return pd.Categorical.from_codes(codes.tolist(), pd.Index(column.categories))
    if column.kind in ("boolean", "integer"):
        dtype = "boolean" if column.kind == "boolean" else "Int64"
        return pd.Series(np.where(missing, np.nan, values)).astype(dtype)  # type: ignore[call-overload, unused-ignore]
    seconds = (values * column.unit_seconds).astype("timedelta64[s]")
    return np.where(missing, np.datetime64("NaT"), np.datetime64(column.origin, "s") + seconds).astype("datetime64[s]")
