"""Speaks the protocol of `researcher.tf_privacy_driver` without TensorFlow, for a model of one Dense and a sigmoid."""

import json
import sys
from pathlib import Path

import numpy as np


def main(folder: Path, mode: str) -> None:
    job = json.loads((folder / "job.json").read_text())
    with np.load(folder / "weights.npz", allow_pickle=False) as weights, np.load(folder / "probe.npz") as probe:
        kernel, bias, inputs = weights["0"], weights["1"], probe["inputs"]
    (folder.parent / "seen.json").write_text(json.dumps([job, sorted(path.name for path in folder.iterdir())]))
    shift = 1.0 if mode == "another-model" else 0.0
    print(json.dumps({"outputs": (1 / (1 + np.exp(-(inputs @ kernel + bias + shift)))).tolist()}), flush=True)
    if sys.stdin.readline().strip() != "train":
        return
    if mode == "fails":
        print(json.dumps({"error": "ResourceExhaustedError: out of memory"}), flush=True)
        return
    with np.load(folder / "rows.npz", allow_pickle=False) as rows:
        assert rows["inputs"].shape == (len(rows["targets"]), len(kernel))
    for epoch in range(1, job["epochs"] + 1):
        print(json.dumps({"epoch": epoch}), flush=True)
    bad = np.nan if mode == "not-finite" else 1.0
    np.savez(folder / "trained.npz", **{"0": kernel + bad, "1": bias})
    print(json.dumps({"done": True}), flush=True)


main(Path(sys.argv[2]), sys.argv[1])
