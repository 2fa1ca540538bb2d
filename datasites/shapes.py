"""Check values that people type into a file against the types of the fields that they are for.

A type is a plain one, a `Literal`, or a number with its bounds, as `Annotated[int, Meta(ge=1, le=65535)]`. msgspec
checks; the sentence that refuses is made here of the same type.
"""

from __future__ import annotations

import types
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec


def shapes(fields_of: type) -> dict[str, Any]:
    """The type of every field of a dataclass, with its bounds."""
    return get_type_hints(fields_of, include_extras=True)


def checked(value: object, shape: Any) -> Any:
    """The value as its type has it (1 as 1.0 where a fraction may stand). Raises `ValueError` saying what it is not."""
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError:
        raise ValueError(f"{repr(value)[:200]} is not {described(shape)}") from None


def described(shape: Any) -> str:
    """A type in words, as `a whole number from 1 to 65535`."""
    arguments = get_args(shape)
    if get_origin(shape) is types.UnionType or type(None) in arguments:
        return described(next(part for part in arguments if part is not type(None)))
    if get_origin(shape) is Literal:
        return f"one of {', '.join(arguments)}"
    if get_origin(shape) is tuple:
        return f"a list of {', '.join(get_args(arguments[0]))}"
    bounds = next(iter(getattr(shape, "__metadata__", ())), None)
    if bounds is None:
        return {str: "text in quotation marks", bool: "true or false"}[shape]
    what = "a whole number" if shape.__origin__ is int else "a number"
    low = f"above {bounds.gt:g}, at most" if bounds.ge is None else f"from {bounds.ge:g} to"
    return f"{what} {low} {bounds.le:.12g}"
