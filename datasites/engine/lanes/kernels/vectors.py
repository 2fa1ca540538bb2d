"""Vector types for numba on which every operation works lane by lane, and pointers to load and store them.

A lane of a result is a function of the same lane of the arguments, under IEEE 754 and whatever the compiler makes of
it: no instruction here carries a fast-math flag. The two exceptions move numbers and compute none: `splat` and `every`
put one number that all records share into all lanes, and `transposed` turns 16 records of 16 numbers around.
"""

from __future__ import annotations

import llvmlite.ir as ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = 16

_WORD = ir.IntType(32)


class Vector(types.Type):
    """LLVM's vector of `lanes` numbers; `element` is its name in the names of LLVM's intrinsics."""

    def __init__(self, element, llvm, lanes):
        self.element, self.lanes, self.llvm = element, lanes, ir.VectorType(llvm, lanes)
        super().__init__(name=f"Vector({element},{lanes})")


F = Vector("f32", ir.FloatType(), LANES)
I = Vector("i32", _WORD, LANES)
D = Vector("f64", ir.DoubleType(), LANES)
D8 = Vector("f64", ir.DoubleType(), 8)
F8 = Vector("f32", ir.FloatType(), 8)
W8 = Vector("i64", ir.IntType(64), 8)
FLAGS = {16: Vector("i1", ir.IntType(1), LANES), 8: Vector("i1", ir.IntType(1), 8)}


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, kind.llvm)


# -- memory


def _place(context, builder, signature, args, llvm):
    index = context.cast(builder, args[1], signature.args[1], types.intp)
    return builder.bitcast(builder.gep(args[0], [index]), ir.PointerType(llvm))


def _loader(vector, align):
    @intrinsic
    def load(typing, pointer, index):
        def codegen(context, builder, signature, args):
            return builder.load(_place(context, builder, signature, args, vector.llvm), align=align, typ=vector.llvm)

        return vector(pointer, index), codegen

    return load


def _storer(vector, align):
    @intrinsic
    def store(typing, pointer, index, value):
        def codegen(context, builder, signature, args):
            builder.store(args[2], _place(context, builder, signature, args, vector.llvm), align=align)
            return context.get_dummy_value()

        return types.void(pointer, index, vector), codegen

    return store


load, store = _loader(F, 4), _storer(F, 4)
load_whole, store_whole = _loader(I, 4), _storer(I, 4)
load_wide, store_wide = _loader(D, 8), _storer(D, 8)
load_words, load_doubles, store_doubles = _loader(W8, 8), _loader(D8, 8), _storer(D8, 8)
load_half, store_half = _loader(F8, 4), _storer(F8, 4)  # of a slot


# -- one number in all lanes


def _everywhere(builder, vector, value):
    one = builder.insert_element(ir.Constant(vector.llvm, ir.Undefined), value, ir.Constant(_WORD, 0))
    first = ir.Constant(ir.VectorType(_WORD, vector.lanes), [0] * vector.lanes)
    return builder.shuffle_vector(one, ir.Constant(vector.llvm, ir.Undefined), first)


def _splatter(vector, scalar):
    @intrinsic
    def splat(typing, value):
        def codegen(context, builder, signature, args):
            return _everywhere(builder, vector, context.cast(builder, args[0], signature.args[0], scalar))

        return vector(value), codegen

    return splat


splat, splat_whole, splat_wide = _splatter(F, types.float32), _splatter(I, types.int32), _splatter(D, types.float64)
splat_double, splat_word = _splatter(D8, types.float64), _splatter(W8, types.int64)
splat_half = _splatter(F8, types.float32)


@intrinsic
def every(typing, pointer, index):
    """One float that all records share, in every lane."""

    def codegen(context, builder, signature, args):
        place = _place(context, builder, signature, args, ir.FloatType())
        return _everywhere(builder, F, builder.load(place, align=4, typ=ir.FloatType()))

    return F(pointer, index), codegen


# -- arithmetic


def _binary(of_floats, of_integers):
    @intrinsic
    def operation(typing, a, b):
        if not isinstance(a, Vector) or a != b:
            return None

        def codegen(context, builder, signature, args):
            return getattr(builder, of_floats if a.element.startswith("f") else of_integers)(*args)

        return a(a, b), codegen

    return operation


add, subtract, multiply = _binary("fadd", "add"), _binary("fsub", "sub"), _binary("fmul", "mul")
divide = _binary("fdiv", "sdiv")
both, either, differ = _binary("", "and_"), _binary("", "or_"), _binary("", "xor")


def _called(name, arity):
    """One of LLVM's intrinsics that becomes an instruction of the processor."""

    def build(context, builder, signature, args):
        vector = signature.return_type
        kind = ir.FunctionType(vector.llvm, [vector.llvm] * arity)
        whole = f"llvm.{name}.v{vector.lanes}{vector.element}"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, whole), args)

    if arity == 3:

        @intrinsic
        def operation(typing, a, b, c):
            return a(a, a, a), build

    else:

        @intrinsic
        def operation(typing, a):
            return a(a), build

    return operation


fma = _called("fma", 3)
root, magnitude, nearest, cut = _called("sqrt", 1), _called("fabs", 1), _called("rint", 1), _called("trunc", 1)


def _comparison(how):
    @intrinsic
    def operation(typing, a, b):
        def codegen(context, builder, signature, args):
            compare = builder.fcmp_ordered if a.element.startswith("f") else builder.icmp_signed
            return compare(how, *args)

        return FLAGS[a.lanes](a, b), codegen

    return operation


less, at_most, more, same = _comparison("<"), _comparison("<="), _comparison(">"), _comparison("==")


@intrinsic
def choose(typing, flags, a, b):
    """Of each lane `a` where its flag is set, else `b`; no branch."""

    def codegen(context, builder, signature, args):
        return builder.select(*args)

    return a(flags, a, b), codegen


def _conversion(source, target, how):
    @intrinsic
    def operation(typing, a):
        def codegen(context, builder, signature, args):
            return getattr(builder, how)(args[0], target.llvm)

        return target(source), codegen

    return operation


to_whole, to_float = _conversion(F, I, "fptosi"), _conversion(I, F, "sitofp")
bits, from_bits = _conversion(F, I, "bitcast"), _conversion(I, F, "bitcast")
widen, narrow = _conversion(F, D, "fpext"), _conversion(D, F, "fptrunc")
widen_half = _conversion(F8, D8, "fpext")
widen_whole = _conversion(I, D, "sitofp")
bits_of_double, double_from_bits = _conversion(D8, W8, "bitcast"), _conversion(W8, D8, "bitcast")


def _shift(how):
    @intrinsic
    def operation(typing, a, by):
        def codegen(context, builder, signature, args):
            width = a.llvm.element
            amount = context.cast(builder, args[1], signature.args[1], types.int64)
            amount = builder.trunc(amount, width) if width.width < 64 else amount
            return getattr(builder, how)(args[0], _everywhere(builder, a, amount))

        return a(a, by), codegen

    return operation


shift_left, shift_right, shift_right_unsigned = _shift("shl"), _shift("ashr"), _shift("lshr")


@intrinsic
def any_of(typing, flags):
    """Whether any of eight flags is set. Asked of random words alone, never of records."""

    def codegen(context, builder, signature, args):
        return builder.icmp_unsigned("!=", builder.bitcast(args[0], ir.IntType(8)), ir.Constant(ir.IntType(8), 0))

    return types.boolean(FLAGS[8]), codegen


# -- packing


@intrinsic
def transposed(typing, source, first, apart, flags, factor, target, place, by):
    """16 vectors of `source`, `apart` floats from each other, as 16 records of 16 numbers from `target[place]` on.

    Records are `by` floats apart. Lanes without their flag become zero, before they are multiplied by their factor.
    """

    def codegen(context, builder, signature, args):
        def index(number):
            return context.cast(builder, args[number], signature.args[number], types.intp)

        begin, distance, end, between = index(1), index(2), index(6), index(7)
        zero = ir.Constant(F.llvm, [0.0] * LANES)
        rows = []
        for row in range(LANES):
            at = builder.add(begin, builder.mul(distance, ir.Constant(begin.type, row)))
            pointer = builder.bitcast(builder.gep(args[0], [at]), ir.PointerType(F.llvm))
            value = builder.load(pointer, align=4, typ=F.llvm)
            rows.append(builder.fmul(builder.select(args[3], value, zero), args[4]))
        for distance_ in (8, 4, 2, 1):
            low = [i if not i & distance_ else LANES + i - distance_ for i in range(LANES)]
            high = [i + distance_ if not i & distance_ else LANES + i for i in range(LANES)]
            mixed = list(rows)
            for row in range(LANES):
                if not row & distance_:
                    pair = rows[row], rows[row + distance_]
                    mixed[row] = builder.shuffle_vector(*pair, ir.Constant(I.llvm, low))
                    mixed[row + distance_] = builder.shuffle_vector(*pair, ir.Constant(I.llvm, high))
            rows = mixed
        for row in range(LANES):
            at = builder.add(end, builder.mul(between, ir.Constant(end.type, row)))
            pointer = builder.bitcast(builder.gep(args[5], [at]), ir.PointerType(F.llvm))
            builder.store(rows[row], pointer, align=4)
        return context.get_dummy_value()

    return types.void(source, first, apart, flags, factor, target, place, by), codegen
