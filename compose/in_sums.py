"""Training of which nothing but the mean is read, while a hospital lies, another is killed, and the relay lies too.

    python -m compose.in_sums submit NAME | run NAME [--liar HOSPITAL] [--hold FILE]
        [--network network.toml] [--directory sums]

`submit` asks every hospital; their owners decide. `run` trains, relays what hospitals say in each round, and then
lies to each of them as a relay can. What came of it is printed as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import researcher
from compose.study import DELTA, FluPredictor
from policies.errors import DatasiteError
from policies.release.certificates import verify
from policies.release.tensors import to_bytes
from policies.secure_sums.encoding import words_of
from researcher.client import Datasite

THRESHOLD = 2
EPSILON, SCORING_EPSILON = 0.3, 0.1


def study_of(network: Path, directory: Path, name: str) -> researcher.Study:
    """A short study, of which two hospitals of three can be read together."""
    cohort = researcher.connect(network).dataset("flu")
    training = researcher.Training(
        loss="binary_cross_entropy", rounds=3, steps=4, sampling_rate=0.05, clipping_norm=1.0, epsilon=EPSILON,
        delta=DELTA, learning_rate=0.5,
    )  # fmt: skip
    return researcher.Study(
        name, cohort, FluPredictor, training, evaluation=researcher.Evaluation(
            epsilon=SCORING_EPSILON, secure_aggregation=True
        ), purpose="To train without reading a hospital by itself.", state=directory / name, progress=False,
        secure_aggregation=THRESHOLD,
    )  # fmt: skip


def trained(study: researcher.Study, *, liar: str = "", hold: Path | None = None, grace: float = 5.0) -> dict[str, Any]:
    """What a run came to: who was in each sum, and what can be seen of each release by itself.

    Args:
      liar: a hospital that gives wrong shares of the others' secrets.
      hold: waited for within the second round; `FILE.held` says that it is.
    """
    with lying(liar), held(hold):
        result = study.run(grace=grace)
        scores = result.evaluate(grace=grace)
    releases = result.releases  # of the scoring, too
    for release in releases:
        verify(release.certificate, release=to_bytes(release.tensors))
    drawn = np.concatenate([words_of(release.tensors) for release in releases]).astype(np.float64) / 2**32
    return {
        "rounds": [sorted(record.answered) for record in result.rounds],
        "scored": sorted(release.hospital for release in scores.releases),
        "finite": all(bool(np.isfinite(value).all()) for value in result.weights.values()),
        "largest_weight": max(float(np.abs(value).max()) for value in result.weights.values()),
        "kinds": sorted({value.dtype.name for release in releases for value in release.tensors.values()}),
        "mean_word": float(drawn.mean()),
        "words": len(drawn),
        "certificates": len(releases),
        "refused": refused(study),
    }


@contextmanager
def lying(liar: str) -> Iterator[None]:
    """Let one hospital's shares be of nothing, as they come from its datasite."""
    told = Datasite.secure_sum

    def secure_sum(self: Datasite, code: str, round: int, step: str, message: Any) -> dict[str, Any]:
        answer = told(self, code, round, step, message)
        if step == "reveal" and self.name == liar:
            return {what: dict.fromkeys(shares, f"{5:066x}") for what, shares in answer.items()}
        return answer

    with mock.patch.object(Datasite, "secure_sum", secure_sum):
        yield


@contextmanager
def held(file: Path | None) -> Iterator[None]:
    """Stop in the second round, with all masked releases there and none opened, until there is a file."""
    told = Datasite.secure_sum

    def secure_sum(self: Datasite, code: str, round: int, step: str, message: Any) -> dict[str, Any]:
        if file is not None and (round, step) == (2, "survivors") and not file.exists():
            file.with_name(f"{file.name}.held").touch()
            while not file.exists():
                time.sleep(0.05)
        return told(self, code, round, step, message)

    with mock.patch.object(Datasite, "secure_sum", secure_sum):
        yield


def refused(study: researcher.Study) -> dict[str, list[str]]:
    """Lie to every hospital about its first round; which steps it refused, by hospital."""
    asked, _ = study.requests.approved("training")
    lies = {
        "keys": {"weights_digest": "00" * 32},
        "shares": {"book": {}},
        "boxes": {"boxes": {}},
        "survivors": {"survivors": [1]},
        "reveal": {"signatures": {}},
    }
    found: dict[str, list[str]] = {}
    for name, one in asked.items():
        for step, message in lies.items():
            try:
                one.datasite.secure_sum(one.code, 1, step, message)
            except DatasiteError:
                found.setdefault(name, []).append(step)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Submit, or run; exit code 0 where it worked."""
    parser = argparse.ArgumentParser(
        prog="python -m compose.in_sums", description="A study that is read in sums alone."
    )
    parser.add_argument("act", choices=("submit", "run"))
    parser.add_argument("name", help="of the study")
    parser.add_argument("--liar", default="", help="a hospital that gives wrong shares")
    parser.add_argument("--hold", type=Path, help="a file that is waited for within the second round")
    parser.add_argument("--network", type=Path, default=Path(os.environ.get("NETWORK") or "network.toml"))
    parser.add_argument("--directory", type=Path, default=Path("sums"), help="where the study is kept")
    chosen = parser.parse_args(arguments)
    try:
        study = study_of(chosen.network, chosen.directory, chosen.name)
        if chosen.act == "submit":
            study.submit()
        else:
            study.wait_for_approval(timeout=60)
            print(json.dumps(trained(study, liar=chosen.liar, hold=chosen.hold)))
    except DatasiteError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
