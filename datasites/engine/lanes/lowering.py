"""Lower one record's forward pass, loss and gradient to a program: the graph and the loss alone decide.

What torch calls for one record is recorded on made-up values (`gradient_recorder`), and each call becomes instructions
(`operators`). A matrix's gradient that is a sum of outer products is not made: its factors are kept, and the sums over
records multiply them. Of such a sum of one product the norm is the product of two norms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import grad_and_value

from datasites.engine.gradient_recorder import Call, NotRecordable, Recorder, Slot, numbers_read, recorded_once
from datasites.engine.interpreter import forward
from datasites.engine.lanes import choices, functions, operators, windows  # noqa: F401 - they fill the table of rules
from datasites.engine.lanes.copies import without_copies
from datasites.engine.lanes.emitter import Emitter, NotLowered, same_layout
from datasites.engine.lanes.instructions import LANES, encoded
from datasites.engine.lanes.memory import Buffer, View, contiguous, give_places
from datasites.engine.lanes.programs import DIRECT, OUTER, Program, Words
from datasites.engine.lanes.rules import LARGEST_WHOLE, RULES
from datasites.engine.losses import Loss, as_loss, record_loss, record_scores
from policies.graph.graphs import Graph, Parameter

MOST_INSTRUCTIONS = 2**17
MOST_FROZEN = 2**21  # constants of a program: a third of a second and 160 MB of work for each million
MOST_FLOATS = 2**23  # of a program's memory for sixteen records: 32 MiB

aten = torch.ops.aten

Factors = list[tuple[View, View]]
"""Left and right vectors of outer products whose sum is a gradient."""


def lowered(
    graph: Graph, loss: Loss | str, classes: int, frozen: Mapping[str, Tensor] = {}
) -> tuple[Program, Recorder]:
    """The program of one record's gradient, and the recording that it was made from, which tests compare it with.

    Args:
      frozen: what the graph's frozen parameters are: constants of the program. Made up where none are given.

    Raises `NotLowered` where an operator has no rule or the program would be too large.
    """
    _check_constants(graph)
    names = [parameter.name for parameter in graph.trained]
    model = forward(graph, frozen or _made_up_constants(graph))

    def one_record(parameters: dict[str, Tensor], record: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        output = model(parameters, record)
        return record_loss(output, label, loss), output

    gradients = grad_and_value(one_record, has_aux=True)

    def flat(tensors: Sequence[Tensor]) -> list[Tensor]:
        by_name, (value, output) = gradients(dict(zip(names, tensors, strict=False)), *tensors[-2:])
        return [*(by_name[name] for name in names), value, output]

    loss = as_loss(loss)
    recording = _recorded(flat, graph, loss, classes)
    return Lowering(graph, recording, loss.values).program(), recording


def lowered_scores(
    graph: Graph, loss: Loss | str | None, frozen: Mapping[str, Tensor] = {}
) -> tuple[Program, Recorder]:
    """The program of one record's scores as `losses.record_scores` has them, and its recording. Raises `NotLowered`.

    Without a loss, of what the graph gives.
    """
    _check_constants(graph)
    names = [parameter.name for parameter in graph.trained]
    model = forward(graph, frozen or _made_up_constants(graph))

    def flat(tensors: Sequence[Tensor]) -> list[Tensor]:
        with torch.no_grad():
            output = model(dict(zip(names, tensors, strict=False)), tensors[-2])
            return [output, output if loss is None else record_scores(output, loss)]

    recording = _recorded(flat, graph, Loss("cross_entropy"), 1)
    return Lowering(graph, recording).scores(), recording


def _recorded(flat: Callable[[Sequence[Tensor]], Sequence[Tensor]], graph: Graph, loss: Loss, classes: int) -> Recorder:
    """What it calls on made-up weights, a made-up record and its target."""

    made = torch.Generator().manual_seed(1)
    weights = list(_made_up(graph.trained, made).values())
    records = torch.randn((2, *graph.input_shape), generator=made)
    labels = loss.made_up(2, classes, made)
    others = [weight * -0.75 for weight in weights]
    try:
        return recorded_once(flat, ([*weights, records[0], labels[0]], [*others, records[1], labels[1]]))
    except NotRecordable as error:
        raise NotLowered(str(error)) from None


def _check_constants(graph: Graph) -> None:
    """Raise `NotLowered` where there are so many that a program of them costs more than it saves."""
    if graph.frozen_count > MOST_FROZEN:
        raise NotLowered(f"{graph.frozen_count:,} of its parameters are frozen, and lanes take {MOST_FROZEN:,}.")


def _made_up_constants(graph: Graph) -> dict[str, Tensor]:
    """Frozen weights of no model, always the same."""
    return _made_up(graph.frozen, torch.Generator().manual_seed(2))


def _made_up(parameters: Iterable[Parameter], made: torch.Generator) -> dict[str, Tensor]:
    return {
        parameter.name: torch.randn(parameter.shape, generator=made).div_(
            math.sqrt(parameter.shape[-1] if parameter.shape else 1)
        )
        for parameter in parameters
    }


def _short(name: str) -> str:
    """An operator's name as graphs have it."""
    return name.removeprefix("aten.").removesuffix(".default").removesuffix("_backward")


class _Scattered:
    """A value that is zero but for parts that do not overlap, not made yet.

    `taken` says of every number whether it is in a part.
    """

    def __init__(self, layout: View, parts: list[tuple[View, View]]) -> None:
        self.layout, self.parts = layout, parts
        self.taken = np.zeros(max(1, layout.numel), dtype=np.bool_)
        for region, _ in parts:
            places = np.array([region.offset])
            for size, stride in zip(region.shape, region.strides, strict=True):
                places = np.add.outer(places, np.arange(size) * stride).reshape(-1)
            self.taken[places] = True


class Lowering:
    """One recording on its way to a program.

    Args:
      values: of a target that is no class: they lie behind the record's inputs, and its label is unused.
    """

    def __init__(self, graph: Graph, recording: Recorder, values: int = 0) -> None:
        self._graph, self._recording = graph, recording
        self._record_number = len(graph.trained)
        self.emitter = Emitter(graph.parameter_count)
        self._views: dict[int, View] = {}
        self._scattered: dict[int, _Scattered] = {}
        self._made_up: dict[int, tuple[int, Callable[[], View]]] = {}  # by numbers below zero: what each reads, and how
        self._made_by = {number: call for call in recording.calls for number in call.results if number is not None}
        self._dependent = {self._record_number, self._record_number + 1}  # on the record or its label
        for call in recording.calls:
            if not self._dependent.isdisjoint(numbers_read(call)):
                self._dependent.update(
                    number for number in call.results if number is not None and number not in recording.fixed
                )
        place = 0
        for number, parameter in enumerate(graph.trained):
            size = math.prod(parameter.shape)
            self._views[number] = View(Buffer(False, size, place), tuple(parameter.shape), contiguous(parameter.shape))
            place += size
        inputs = math.prod(graph.input_shape)
        self._record = Buffer(True, inputs + values, kept=True)
        self._label = Buffer(True, 1, kept=True)
        shape = tuple(graph.input_shape)
        self._views[self._record_number] = View(self._record, shape, contiguous(shape))
        target = View(self._record, (values,), (1,), inputs) if values else View(self._label, (), ())
        self._views[self._record_number + 1] = target

    def program(self) -> Program:
        """Emit everything, then give memory its places."""
        *gradients, loss, output = self._recording.outputs
        try:
            found = [self._factors(number, tuple(part.shape)) for number, part in self._gradients(gradients)]
        except RecursionError:
            raise NotLowered("A gradient is a sum of too many parts.") from None
        wanted = {loss, output}
        for number, products in zip(gradients, found, strict=True):
            sides = [number] if products is None else [side for product in products for side in product[:2]]
            wanted.update(self._made_up[side][0] if side < 0 else side for side in sides)
        for call in self._needed(wanted):
            self._lower(call)
        self._check_finite(loss, output)
        terms, groups = self._sums(gradients, found)
        return self._placed(terms, groups)

    def scores(self) -> Program:
        """The same for a recording whose outputs are what the model gives and the scores that are made of it."""
        output, scores = self._recording.outputs
        for call in self._needed({output, scores}):
            self._lower(call)
        self._check_finite(output)
        given = self.emitter.dense(self._view(scores))
        kept = self.emitter.unary("copy", given, self.emitter.fresh((max(1, given.numel),)))
        kept.buffer.kept = True
        return replace(self._placed([(kept, LANES, kept, LANES)], []), outputs=kept.numel)

    def _check_finite(self, *numbers: int) -> None:
        """The record is sound where all of these are finite."""
        for number in numbers:
            view = self.emitter.dense(self._view(number))
            self.emitter.emit("finite", x=view, n=max(1, view.numel), sx=LANES)

    def _gradients(self, numbers: Sequence[int]) -> list[tuple[int, Any]]:
        return list(zip(numbers, self._graph.trained, strict=True))

    # -- what a rule sees

    def argument(self, call: Call, index: int) -> View:
        """The tensor that is this argument."""
        return self._view(call.arguments[index].number)

    def arguments(self, call: Call) -> list[View]:
        """The tensors of a list that is the first argument."""
        return [self._view(slot.number) for slot in call.arguments[0]]

    def result(self, call: Call, index: int = 0) -> View:
        """New memory for a result, in torch's layout, which later calls take views of."""
        number = call.results[index]
        assert number is not None
        view = self._layout(call, number)
        view = View(Buffer(True, max(1, view.numel)), view.shape, view.strides)
        self._views[number] = view
        return view

    def layout(self, call: Call) -> View:
        """A view in the layout of the result, of no memory."""
        number = call.results[0]
        assert number is not None
        return self._layout(call, number)

    def _layout(self, call: Call, number: int) -> View:
        value = self._recording.values[number]
        if value.dtype not in (torch.float32, torch.bool, torch.int64):
            raise NotLowered(f"numbers of {value.dtype}. Use float32.")
        dense = sorted((stride, size) for size, stride in zip(value.shape, value.stride(), strict=True) if size != 1)
        expected = 1
        for stride, size in dense:
            if stride != expected:
                raise NotLowered("numbers that are not in one piece.")
            expected *= size
        return View(Buffer(True, 0), tuple(value.shape), tuple(value.stride()))

    def scatter(self, call: Call, region: View, part: View) -> None:
        """Take `part` for what lies in `region` of the result, and zero for all else.

        Made when somebody asks for it. Recurrent layers add up one such result a step, whose parts do not overlap: then
        each part is copied once, and nothing is added.
        """
        number = call.results[0]
        assert number is not None
        self._scattered[number] = _Scattered(self._layout(call, number), [(region, part)])

    def joined(self, call: Call) -> bool:
        """Whether two such results were added by taking the parts of both, which do not overlap."""
        added = [self._scattered.get(slot.number) for slot in call.arguments if isinstance(slot, Slot)]
        number = call.results[0]
        if len(added) != 2 or added[0] is None or added[1] is None or number is None:
            return False
        first, second = added[0], added[1]
        layout = self._layout(call, number)
        if not layout.strides == first.layout.strides == second.layout.strides or (first.taken & second.taken).any():
            return False
        self._scattered[number] = _Scattered(layout, first.parts + second.parts)
        return True

    def _made(self, number: int) -> View:
        """A scattered value in memory of its own."""
        scattered = self._scattered[number]
        y = View(Buffer(True, scattered.layout.numel), scattered.layout.shape, scattered.layout.strides)
        if not scattered.taken.all():
            self.emitter.fill(y, 0.0)
        for region, part in scattered.parts:
            self.emitter.copy(y.as_(region.shape, region.strides, region.offset), part)
        return y

    def give(self, call: Call, *views: View | None) -> None:
        """Take views, of any layout, for the call's results."""
        for index, (number, view) in enumerate(zip(call.results, views, strict=True)):
            if number is None or view is None:
                continue
            value = self._recording.values[number]
            shape, strides = tuple(value.shape), tuple(value.stride())
            if view.shape != shape:
                view = self.emitter.shaped(view, shape)
            if same_layout(view, shape, strides):
                self._views[number] = View(view.buffer, shape, strides)
            else:
                self.emitter.unary("copy", view, self.result(call, index))

    def show(self, call: Call, views: Sequence[View]) -> None:
        """Take views of an argument for the results of a call that itself gives views."""
        self._views.update(
            (number, view) for number, view in zip(call.results, views, strict=True) if number is not None
        )

    def constant(self, call: Call, value: float) -> None:
        """Take one number for all of the call's result."""
        number = call.results[0]
        assert number is not None
        self._views[number] = self.emitter.numbers([value], tuple(self._recording.values[number].shape))

    def known(self, call: Call, index: int) -> Tensor | None:
        """The values of an argument in which no input has a part; None of others."""
        number = call.arguments[index].number
        if number not in self._recording.fixed and number not in self._recording.outside:
            return None
        value: Tensor = self._recording.values[number].detach()
        return value

    def dtype(self, call: Call, index: int) -> torch.dtype:
        """Of the tensor that is this argument."""
        value: Tensor = self._recording.values[call.arguments[index].number]
        return value.dtype

    def result_dtype(self, call: Call) -> torch.dtype:
        """Of the first result."""
        number = call.results[0]
        assert number is not None
        return self._recording.values[number].dtype

    # -- values

    def _view(self, number: int) -> View:
        if number not in self._views and number in self._made_up:
            self._views[number] = self._made_up[number][1]()
        if number not in self._views and number in self._scattered:
            self._views[number] = self._made(number)
        if number not in self._views:
            recording, value = self._recording, self._recording.values[number]
            if number not in recording.outside and number not in recording.fixed:
                raise NotLowered("what another operator gives besides its values.")
            made_by = self._made_by.get(number)
            if made_by is not None and made_by.operator is torch.as_strided:  # a view of a constant, kept once
                self._lower(made_by)
                return self._views[number]
            if not value.is_contiguous() and len(set(value.detach().flatten().tolist())) > 1:
                raise NotLowered("a constant that is not in one piece.")
            if value.dtype == torch.int64 and value.numel() and int(value.abs().max()) > LARGEST_WHOLE:
                raise NotLowered(f"a whole number is larger than {LARGEST_WHOLE:,}. Use float32.")
            flat = value.detach().to(torch.float32).flatten().tolist()
            if not flat:
                raise NotLowered("a tensor without numbers.")
            self._views[number] = self.emitter.numbers(flat, tuple(value.shape))
        return self._views[number]

    def _needed(self, wanted: set[int]) -> list[Call]:
        calls = []
        for call in reversed(self._recording.calls):
            if wanted.intersection(call.results) - self._recording.fixed:
                calls.append(call)
                wanted.update(numbers_read(call))
        return calls[::-1]

    def _lower(self, call: Call) -> None:
        if call.operator is torch.as_strided:
            slot, shape, strides, offset = call.arguments
            root, number = self._view(slot.number), call.results[0]
            assert number is not None
            offset -= self._recording.values[slot.number].storage_offset()
            last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
            if offset < 0 or last >= max(1, root.numel):
                raise NotLowered("A view of memory that no operator gave.")
            if root.buffer.size == 1 and root.numel > 1:  # one constant, of whatever shape
                strides, offset = (0,) * len(shape), 0
            self._views[number] = root.as_(shape, strides, offset)
            return
        name = str(call.operator)
        if name not in RULES:
            raise NotLowered(f"It uses {_short(name)}, which has no rule.")
        try:
            RULES[name](self, call)
        except NotLowered as error:
            raise NotLowered(f"It uses {_short(name)}: {error}") from None
        if len(self.emitter.code) > MOST_INSTRUCTIONS:
            raise NotLowered(
                f"It takes more than {MOST_INSTRUCTIONS:,} instructions a record. Use fewer steps or layers."
            )

    # -- gradients

    def _factors(self, number: int, shape: tuple[int, ...]) -> list[tuple[int, int, bool, int]] | None:
        """Outer products whose sum is this gradient, as (a, b, turned, index): column of a, row of b; or None.

        `turned` says that the gradient is the product's transpose.
        """
        call = self._made_by.get(number)
        if len(shape) != 2 or call is None:
            return None
        if call.operator is torch.as_strided:
            slot, view_shape, strides, offset = call.arguments
            value = self._recording.values[slot.number]
            if offset or value.dim() != 2 or not value.is_contiguous():
                return None
            return self._factors_of_view(slot.number, tuple(value.shape), tuple(view_shape), tuple(strides), shape)
        if tuple(self._recording.values[number].shape) != shape:
            return None
        if call.operator is aten.add.Tensor and len(call.arguments) == 2 and not call.keywords:
            if not all(isinstance(slot, Slot) for slot in call.arguments):
                return None
            parts = [self._factors(slot.number, shape) for slot in call.arguments]
            return None if parts[0] is None or parts[1] is None else parts[0] + parts[1]
        if call.operator is aten.mm.default:
            a, b = (slot.number for slot in call.arguments)
            if self._dependent.isdisjoint((a, b)):
                return None
            return [(a, b, False, index) for index in range(self._recording.values[a].shape[1])]
        if call.operator is aten.embedding_dense_backward.default:
            return self._factors_of_table(call, rows=shape[0])
        return None

    def _factors_of_table(self, call: Call, *, rows: int) -> list[tuple[int, int, bool, int]] | None:
        """A table's gradient: for each row that was read, 1 at its place times the gradient of what was read."""
        gradient, indices = (call.arguments[side].number for side in (0, 1))
        read, columns = self._recording.values[indices].numel(), self._recording.values[gradient].shape[-1]
        if read > columns:  # than the whole gradient takes less memory
            return None

        def places() -> View:
            return choices.one_hot(self.emitter, self._view(indices), rows).ordered((1, 0))

        def parts() -> View:
            return self.emitter.shaped(self._view(gradient), (read, columns))

        first = -1 - len(self._made_up)
        self._made_up |= {first: (indices, places), first - 1: (gradient, parts)}
        return [(first, first - 1, False, index) for index in range(read)]

    def _factors_of_view(
        self, root: int, have: tuple[int, ...], shown: tuple[int, ...], strides: tuple[int, ...], shape: tuple[int, ...]
    ) -> list[tuple[int, int, bool, int]] | None:
        def layout(sizes: Sequence[int], steps: Sequence[int]) -> list[tuple[int, int]]:
            return [(size, step) for size, step in zip(sizes, steps, strict=True) if size != 1]

        if shown == have == shape and layout(shown, strides) == layout(have, contiguous(have)):
            return self._factors(root, have)
        if shown == have[::-1] == shape and layout(shown, strides) == layout(have, contiguous(have))[::-1]:
            found = self._factors(root, have)
            return None if found is None else [(a, b, not turned, index) for a, b, turned, index in found]
        return None

    def _sums(
        self, gradients: Sequence[int], found: Sequence[list[tuple[int, int, bool, int]] | None]
    ) -> tuple[list[tuple[View, int, View, int]], list[list[int]]]:
        """Terms and groups of a program, and the instructions that take norms."""
        terms: list[tuple[View, int, View, int]] = []
        groups: list[list[int]] = []
        place = 0
        for (number, parameter), products in zip(self._gradients(gradients), found, strict=True):
            size, first = math.prod(parameter.shape), len(terms)
            if products is None:
                view = self.emitter.dense(self._view(number))
                view.buffer.kept = True
                terms.append((view, LANES, view, LANES))
                groups.append([DIRECT, place, size, 1, first, 1])
                self.emitter.emit("norm_direct", x=view, n=size, sx=LANES)
            else:
                rows, columns = parameter.shape
                terms += [self._term(*product) for product in products]
                groups.append([OUTER, place, rows, columns, first, len(products)])
                if len(products) == 1:
                    left, left_stride, right, right_stride = terms[first]
                    self.emitter.emit("norm_outer", x=left, n=rows, sx=left_stride, z=right, k=columns, sz=right_stride)
                else:
                    self.emitter.emit("norm_terms", first=first, T=len(products), O=rows, K=columns)
            place += size
        return terms, groups

    def _term(self, a: int, b: int, turned: bool, index: int) -> tuple[View, int, View, int]:
        column, row = self._kept(a), self._kept(b)
        left = column.as_((column.shape[0],), (column.strides[0],), index * column.strides[1])
        right = row.as_((row.shape[1],), (row.strides[1],), index * row.strides[0])
        if turned:
            left, right = right, left
        return left, left.strides[0] * LANES, right, right.strides[0] * LANES

    def _kept(self, number: int) -> View:
        """A value in lanes, kept for the sums; lifted once where it does not depend on the record."""
        view = self._view(number)
        if not view.buffer.lanes:
            view = self._views[number] = self.emitter.dense(view)
        view.buffer.kept = True
        return view

    def _placed(self, terms: list[tuple[View, int, View, int]], groups: list[list[int]]) -> Program:
        always = (self._record, self._label)
        emitted, terms = without_copies(self.emitter.code, terms, always)
        scratch, own = give_places(emitted, always)
        if scratch + own > MOST_FLOATS:
            raise NotLowered("It takes more than 2 MiB a record. Use smaller layers or fewer steps.")

        def words(fields: dict[str, View | int]) -> dict[str, int]:
            return {name: value.address if isinstance(value, View) else value for name, value in fields.items()}

        code: Words = np.array([encoded(name, words(fields)) for name, fields in emitted], dtype=np.int64)
        listed = [(left.address, by, right.address, at) for left, by, right, at in terms]
        return Program(
            code=code,
            terms=np.array(listed, dtype=np.int64).reshape(-1, 4),
            groups=np.array(groups, dtype=np.int64).reshape(-1, 6),
            constants=np.array(self.emitter.constants, dtype=np.float32),
            scratch=scratch,
            own=own,
            record=self._record.place,
            label=self._label.place,
            features=self._record.size,
            parameters=self._graph.parameter_count,
        )
