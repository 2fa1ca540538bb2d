"""Record the operators that a function of tensors calls, and replay them without autograd and vmap.

Per-record gradients of a small model spend most of their time in PyTorch's transforms and in autograd, which find the
same list of operators anew at each step. `recorded` runs the function on made-up values and keeps that list: a tape
calls the same operators in the same order on other values of the same shapes, and so gives the same bits.

Nothing private is near while a tape is made. That a tape depends on no value is checked and not assumed: the function
is run twice on different values, both runs must have called the same operators with the same constants, and the tape
of the first must give what the second gave. A tape writes to no tensor: what the function changes in place is made
anew. Where several tensors show what is changed, where an operator draws random numbers or answers with anything but
tensors, nothing is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from policies.errors import DatasiteError

Function = Callable[[Sequence[Tensor]], Sequence[Tensor]]

LARGEST_RECORDING = 2**28  # bytes that the values of one recording may take, since all are kept until it ends

aten = torch.ops.aten

_BY_SHAPE_ALONE = {
    aten.full_like.default,
    aten.new_ones.default,
    aten.new_zeros.default,
    aten.ones_like.default,
    aten.zeros_like.default,
}
# The same kernels by their faster names.
_SHORT: dict[Callable[..., Any], Callable[..., Any]] = {
    aten.add.Tensor: torch.add,
    aten.addmm.default: torch.addmm,
    aten.bmm.default: torch.bmm,
    aten.clamp.default: torch.clamp,
    aten.div.Tensor: torch.div,
    aten.mm.default: torch.mm,
    aten.mul.Scalar: torch.mul,
    aten.mul.Tensor: torch.mul,
    aten.neg.default: torch.neg,
    aten.relu.default: torch.relu,
    aten.sigmoid.default: torch.sigmoid,
    aten.sub.Tensor: torch.sub,
    aten.tanh.default: torch.tanh,
}


class NotRecordable(DatasiteError):
    """A function calls what a tape cannot hold; it still runs as it is."""


@dataclass(frozen=True, slots=True, repr=False)
class Slot:
    """Stands for the tensor of this number among a call's arguments."""

    number: int

    def __repr__(self) -> str:
        return f"Slot({self.number})"


@cache
def _name(operator: Callable[..., Any]) -> str:
    return str(operator)


@dataclass(frozen=True)
class Call:
    """One call of an operator."""

    operator: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    results: tuple[int | None, ...]  # numbers of the tensors that it gives
    several: bool

    @cached_property
    def reads(self) -> list[int]:
        """Numbers of the tensors among its arguments."""
        return _numbers_in(self.arguments) + _numbers_in(tuple(self.keywords.values()))


def recorded(function: Function, examples: tuple[Sequence[Tensor], Sequence[Tensor]]) -> Function:
    """`function` as a tape, for tensors of the examples' shapes.

    Args:
      function: pure; takes and returns flat sequences of tensors.
      examples: two sets of arguments with equal shapes and different values, none of them private.

    Returns:
      A function that refuses other shapes than the examples'. It may return one tensor twice or the same one at each
      call, so whoever gets a result must not write to it.

    Raises:
      NotRecordable: an operator is not of the kind that a tape holds, the two runs differ, or they are too large.
    """
    first, second = both_runs(function, examples)
    tape = _Tape(first, examples[0])
    played = tape([tensor.clone(memory_format=torch.contiguous_format) for tensor in examples[1]])
    if not all(
        torch.allclose(*pair, rtol=0, atol=0, equal_nan=True) for pair in zip(played, second.results, strict=True)
    ):
        raise NotRecordable("The tape gives other values than the function.")
    return tape


def recorded_once(function: Function, examples: tuple[Sequence[Tensor], Sequence[Tensor]]) -> Recorder:
    """What `function` calls on the first of two sets of arguments, and in `other` what it gives for the second.

    For who makes something of a recording and compares what that gives for the second set, in place of a second record.
    """
    recording = Recorder.run(function, examples[0])
    arguments = [tensor.clone(memory_format=torch.contiguous_format) for tensor in examples[1]]
    recording.other = (arguments, list(function(arguments)))
    return recording


def both_runs(function: Function, examples: tuple[Sequence[Tensor], Sequence[Tensor]]) -> tuple[Recorder, Recorder]:
    """What `function` calls on each of two sets of arguments: the same. Raises `NotRecordable` where it is not."""
    first, second = (Recorder.run(function, example) for example in examples)
    if first.signatures != second.signatures or first.outputs != second.outputs:
        raise NotRecordable("The operators that are called depend on values.")
    if [id(tensor) for tensor in first.outside.values()] != [id(tensor) for tensor in second.outside.values()]:
        raise NotRecordable("A tensor appears that no operator made.")
    return first, second


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down calls. Every tensor it meets is kept, so that no address or identity is used twice."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []
        self.signatures: list[str] = []
        self.outputs: list[int] = []
        self.results: list[Tensor] = []
        self.values: list[Tensor] = []
        self.other: tuple[list[Tensor], list[Tensor]] = ([], [])  # other arguments, and the results of these
        self.outside: dict[int, Tensor] = {}  # constants of the function itself
        self.fixed: set[int] = set()  # numbers of tensors whose values no input has a part in
        self._refusal = ""
        self._numbers: dict[int, int] = {}
        self._layouts: dict[tuple[Any, ...], int] = {}
        self._roots: dict[int, int] = {}
        self._by_signature: dict[str, Call] = {}
        self._shown: dict[int, set[int]] = {}  # numbers of the tensors that show a memory
        self._bytes = 0
        self._inputs = len(inputs)
        for tensor in inputs:
            self._add(tensor)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing compiles here; to say so at each call costs as much as writing the call down."""
        return False

    @classmethod
    def run(cls, function: Function, inputs: Sequence[Tensor]) -> Recorder:
        """Record one run on copies of `inputs`."""
        copies = [tensor.clone(memory_format=torch.contiguous_format) for tensor in inputs]
        recorder = cls(copies)
        with recorder:
            outputs = function(copies)
        recorder.results = list(outputs)
        recorder.outputs = [recorder._number(tensor) for tensor in outputs]
        if recorder._refusal:
            raise NotRecordable(recorder._refusal)
        return recorder

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._refusal:  # the run goes to its end, unrecorded
            return operator(*args, **kwargs)
        if operator._schema.is_mutable:
            return self._change(operator, args, kwargs)
        result = operator(*args, **kwargs)
        self._record(operator, args, kwargs, result)
        return result

    def _change(self, operator: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Record a change in place as the operator that makes a new tensor, where no other tensor shows that memory."""
        name = operator._schema.name.removeprefix("aten::")
        pure = getattr(getattr(aten, name.removesuffix("_"), None), operator._overloadname, None)
        if not name.endswith("_") or pure is None or kwargs or id(args[0]) not in self._numbers:
            self._refusal = f"{operator} writes to a tensor."
            return operator(*args, **kwargs)
        changed, before = args[0], self._numbers[id(args[0])]
        alone = self._shown[_memory(changed)] == {before} and before not in self.outside and before >= self._inputs
        self.values.append(self.values[before])
        self.values[before] = changed.clone()  # which a constant would need
        fresh = pure(*args)
        result = operator(*args)
        same_layout = (fresh.shape, fresh.stride(), fresh.dtype) == (changed.shape, changed.stride(), changed.dtype)
        if result is not changed or not same_layout or not (alone or _memory(fresh) == _memory(changed)):
            self._refusal = f"{operator} writes to a tensor."
            return result
        if _memory(fresh) != _memory(changed):
            del self._roots[_memory(changed)], self._shown[_memory(changed)]
        self._numbers[id(changed)] = before
        self._record(pure, args, {}, fresh)
        if not self._refusal:
            self._repeat(changed, self._numbers[id(fresh)])
        return result

    def _record(self, operator: Any, args: Any, kwargs: dict[str, Any], result: Any) -> None:
        several = isinstance(result, list | tuple)
        tensors = list(result) if several else [result]
        if torch.Tag.nondeterministic_seeded in operator.tags:
            self._refusal = f"{operator} draws random numbers."
        elif not all(tensor is None or isinstance(tensor, Tensor) for tensor in tensors):
            self._refusal = f"{operator} gives something else than tensors."
        elif self._bytes > LARGEST_RECORDING:
            self._refusal = f"Its values take more than {LARGEST_RECORDING} bytes."
        else:
            arguments, keywords = self._written(args), self._written(kwargs)
            if several or not self._is_view(result):
                if operator is aten.bmm.default and args[0].shape[2] == 1:
                    operator = aten.mul.Tensor  # sums of one product each
                self._write(operator, arguments, keywords, several, tensors)

    def _write(
        self,
        operator: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        several: bool,
        tensors: list[Tensor | None],
    ) -> None:
        signature = f"{_name(operator)} {arguments!r} {keywords!r}"
        earlier = self._by_signature.get(signature)
        if earlier is not None:  # the same call gives the same values
            for tensor, number in zip(tensors, earlier.results, strict=True):
                if tensor is not None and number is not None:
                    self._repeat(tensor, number)
            return
        results = tuple(None if tensor is None else self._add(tensor) for tensor in tensors)
        call = Call(operator, arguments, keywords, results, several)
        self._by_signature[signature] = call
        self._append(call, signature)

    def _append(self, call: Call, signature: str) -> None:
        self.calls.append(call)
        self.signatures.append(signature)
        by_shape = call.operator in _BY_SHAPE_ALONE
        if by_shape or all(number in self.fixed or number in self.outside for number in numbers_read(call)):
            self.fixed.update(number for number in call.results if number is not None)

    def _is_view(self, tensor: Tensor) -> bool:
        """Whether it shows memory that is known; it is then one view of the tensor whose memory that is."""
        root = self._roots.get(_memory(tensor))
        if root is None or tensor.dtype != self.values[root].dtype or not tensor.numel():
            return False
        layout = (tuple(tensor.shape), tensor.stride(), tensor.storage_offset())
        number = self._layouts.get((root, *layout))
        if number is not None:
            self._repeat(tensor, number)
        else:
            call = Call(torch.as_strided, (Slot(root), *layout), {}, (self._add(tensor),), False)
            self._append(call, f"view {root} {layout}")
        return True

    def _add(self, tensor: Tensor) -> int:
        """Number a new tensor."""
        number = len(self.values)
        self._keep(tensor, number)
        if tensor.numel():
            root = self._roots.setdefault(_memory(tensor), number)
            layout = (root, tuple(tensor.shape), tensor.stride(), tensor.storage_offset())
            self._layouts.setdefault(layout, number)
        return number

    def _repeat(self, tensor: Tensor, number: int) -> None:
        """Take it for the tensor of that number, which has its values and its layout."""
        self._keep(tensor, number)
        self._roots.setdefault(_memory(tensor), self._roots.get(_memory(self.values[number]), number))

    def _keep(self, tensor: Tensor, number: int) -> None:
        self.values.append(tensor)
        self._numbers[id(tensor)] = number
        self._shown.setdefault(_memory(tensor), set()).add(number)
        if _memory(tensor) not in self._roots:
            self._bytes += tensor.untyped_storage().nbytes()

    def _number(self, tensor: Tensor) -> int:
        number = self._numbers.get(id(tensor))
        if number is None:
            number = self._add(tensor)
            self.outside[number] = tensor
        return number

    def _written(self, value: Any) -> Any:
        """Arguments with tensors replaced by their slots."""
        if isinstance(value, Tensor):
            return Slot(self._number(value))
        if isinstance(value, dict):
            return {name: self._written(part) for name, part in value.items()}
        if isinstance(value, list | tuple):
            return tuple(self._written(part) for part in value)
        return value


def _memory(tensor: Tensor) -> int:
    """Which memory it shows: the same number for a tensor and its views."""
    number: int = tensor.untyped_storage()._cdata
    return number


def numbers_read(value: Any) -> list[int]:
    """Numbers of the tensors that a call or its arguments read."""
    return value.reads if isinstance(value, Call) else _numbers_in(value)


def _numbers_in(value: Any) -> list[int]:
    if isinstance(value, Slot):
        return [value.number]
    numbers: list[int] = []
    if isinstance(value, tuple):
        for part in value:
            if isinstance(part, Slot):
                numbers.append(part.number)
            elif isinstance(part, tuple):
                numbers += _numbers_in(part)
    return numbers


@dataclass(frozen=True)
class _Step:
    """A call over places in a list of values: `slots` says which arguments are taken from which places."""

    operator: Callable[..., Any]
    arguments: list[Any]
    slots: list[tuple[int, int | list[int]]]
    keywords: dict[str, Any]
    results: list[int | None]
    several: bool
    ended: list[int]  # places that nothing reads any more


class _Tape:
    """Runs what was recorded, but not what no output needs; what no input has a part in is there already."""

    def __init__(self, recorder: Recorder, inputs: Sequence[Tensor]) -> None:
        self._inputs = [(tensor.shape, tensor.dtype) for tensor in inputs]
        needed = set(recorder.outputs)
        calls: list[Call] = []
        for call in reversed(recorder.calls):
            if needed.intersection(call.results) - recorder.fixed:
                calls.insert(0, call)
                needed.update(numbers_read(call))
        computed = [number for call in calls for number in call.results if number is not None]
        constants = sorted(needed - set(computed) - set(range(len(inputs))))
        self._constants = [recorder.values[number] for number in constants]
        numbers = [*range(len(inputs)), *constants, *computed]
        places = {number: place for place, number in enumerate(numbers)}
        self._room: list[None] = [None] * len(computed)
        self._outputs = [places[number] for number in recorder.outputs]
        last = {places[number]: index for index, call in enumerate(calls) for number in numbers_read(call)}
        lasting = {*self._outputs, *range(len(numbers) - len(computed))}
        ended: list[list[int]] = [[] for _ in calls]
        for place, index in last.items():
            if place not in lasting:
                ended[index].append(place)
        self._steps = [_step(call, places, over) for call, over in zip(calls, ended, strict=True)]

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        if [(tensor.shape, tensor.dtype) for tensor in inputs] != self._inputs:
            raise DatasiteError("A tape was recorded for tensors of other shapes.")
        # Views are taken by their place in memory.
        if not all(tensor.is_contiguous() and tensor.storage_offset() == 0 for tensor in inputs):
            raise DatasiteError("A tape takes tensors that lie in memory of their own, in one piece.")
        values: list[Any] = [*inputs, *self._constants, *self._room]
        with torch.no_grad():
            for step in self._steps:
                arguments = step.arguments.copy()
                for position, place in step.slots:
                    arguments[position] = values[place] if isinstance(place, int) else [values[part] for part in place]
                result = step.operator(*arguments, **step.keywords)
                if step.several:
                    for target, tensor in zip(step.results, result, strict=True):
                        if target is not None:
                            values[target] = tensor
                else:
                    values[step.results[0]] = result  # type: ignore[index]
                for place in step.ended:
                    values[place] = None
        return [values[place] for place in self._outputs]


def _step(call: Call, places: dict[int, int], ended: list[int]) -> _Step:
    if numbers_read(tuple(call.keywords.values())):
        raise NotRecordable(f"{call.operator} takes a tensor by keyword.")
    slots: list[tuple[int, int | list[int]]] = []
    for position, value in enumerate(call.arguments):
        if isinstance(value, Slot):
            slots.append((position, places[value.number]))
        elif numbers_read(value):
            if not all(isinstance(part, Slot) for part in value):
                raise NotRecordable(f"{call.operator} takes a list of which some are no tensors.")
            slots.append((position, [places[part.number] for part in value]))
    operator = _SHORT.get(call.operator, call.operator)
    results = [None if number is None else places[number] for number in call.results]
    return _Step(operator, list(call.arguments), slots, call.keywords, results, call.several, ended)
