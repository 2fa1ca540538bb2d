"""Python's text made a tree, in one thread at a time, so that none breaks another's."""

from __future__ import annotations

import ast
import threading
import warnings

_TRIES = 5

_parsing = threading.Lock()


def parsed(text: str) -> ast.Module:
    """The tree of a module. Nothing of it is run, and nothing is printed.

    CPython 3.11 counts how deep a tree is once for all threads, and ends with a `SystemError` where two make a tree at
    once. Ours take turns; a library's in this process may still come between, so it is tried again.

    Raises:
      SyntaxError, ValueError, RecursionError, MemoryError: as `ast.parse` does, for a text that is no Python.
    """
    for left in reversed(range(_TRIES)):
        try:
            with _parsing, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of escapes in strings: filters differ between processes
                return ast.parse(text)
        except SystemError:
            if not left:
                raise
    raise AssertionError("the last try returns or raises")
