"""Which part of a model is trained and released, which is a public constant, and which stays at the hospital.

A mechanism that runs a model names the parts by patterns over its parameters' dotted names, as `body.*`:

* *frozen* ones are constants that anybody may know: no gradient, no noise, no part of the clipping norm, and no part of
  a release. Their values are given once, and named by the digest of all of them together (`public_weights`);
* *local* ones are trained as all others are, clipped and noised with them and charged the same, and never leave: each
  hospital keeps its own;
* all others are trained and released.

`initial` is the digest of the weights that the first round starts from, where they are public ones that were named. The
digests are of names, dtypes, shapes and values (`policies.release.tensors.digest`). Nothing here or anywhere else can
tell where public weights come from: what was learnt from patients into them, they give away.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from policies.errors import UnsupportedMechanism

MOST_PATTERNS = 50
NOT_CHECKED = (
    "Nothing checks where public weights come from: whatever was learnt from patients into them has left already, and"
    " no budget counts it."
)

_PATTERN = re.compile(r"[A-Za-z0-9_.*]{1,200}\Z")
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


def check_parts(
    *, frozen: object = (), local: object = (), public_weights: object = "", initial: object = "", trained_as: str = ""
) -> None:
    """Raise `UnsupportedMechanism` unless patterns and digests are written as they have to be."""
    for name, patterns in (("frozen", frozen), ("local", local)):
        fits = isinstance(patterns, tuple) and len(patterns) <= MOST_PATTERNS
        if not fits or not all(isinstance(pattern, str) and _PATTERN.match(pattern) for pattern in patterns):  # type: ignore[attr-defined]
            raise UnsupportedMechanism(
                f"{name}={patterns!r:.120} is not a tuple of at most {MOST_PATTERNS} names of parameters, in which *"
                f' stands for any letters. Write {name}=("body.*",).'
            )
    for name, digest in (("public_weights", public_weights), ("initial", initial)):
        if not isinstance(digest, str) or (digest and not _DIGEST.match(digest)):
            raise UnsupportedMechanism(
                f"{name}={digest!r:.80} is not the digest of weights, 64 hexadecimal digits. Let researcher.Study"
                " write it, or policies.release.tensors.digest(weights)."
            )
    if (frozen or local) and not public_weights:
        raise UnsupportedMechanism(
            "frozen and local parameters begin with values that the hospital has to know. Name the digest of all of"
            " them together as public_weights=..., which researcher.Study does for you."
        )
    if not isinstance(trained_as, str) or len(trained_as) > 200:
        raise UnsupportedMechanism(f"trained_as={trained_as!r:.80} is not the name of a request that trains.")


def matches(patterns: Iterable[str], name: str) -> bool:
    """Whether one of the patterns is the name of this parameter; `*` stands for any letters, dots too."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def part_sentences(
    *, frozen: tuple[str, ...], local: tuple[str, ...], public_weights: str, initial: str = ""
) -> tuple[str, ...]:
    """What a declaration says of the parts, in plain words; nothing where it names none."""
    said = []
    if frozen:
        said.append(f"Frozen, as public constants: {', '.join(frozen)}.")
    if local:
        said.append(f"Trained and charged with the others, and kept at the hospital: {', '.join(local)}.")
    if public_weights:
        said.append(f"Public weights have the digest {public_weights}.")
    if initial:
        said.append(f"The first round begins with public weights of the digest {initial}.")
    return (*said, NOT_CHECKED) if said else ()
