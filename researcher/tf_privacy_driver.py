"""Train with TensorFlow Privacy. Runs in an environment of its own, by path: it imports nothing of ours.

    python -I tf_privacy_driver.py FOLDER

FOLDER holds `job.json` (layers and settings), `weights.npz` and `probe.npz` (made-up inputs). Once the model is made it
prints one line, `{"outputs": [...]}` of the made-up inputs, and waits: for `train`, after which it reads `rows.npz`, or
for anything else, which ends it. Each epoch is a line, `{"epoch": 1}`; the last one is `{"done": true}`, and
`trained.npz` is there. What goes wrong is `{"error": "..."}`. Nothing is pickled.

Each row joins a batch by a coin of its own (Poisson sampling), which the accountant on the other side computes for. A
batch has a fixed number of places: those that are left are filled with zeros whose loss is multiplied by 0.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np
import tensorflow as tf
from tensorflow_privacy.privacy.optimizers import dp_optimizer_keras

_OLDER = {"LeakyReLU": {"negative_slope": "alpha"}}  # options by the name that this Keras has for them
_ACTIVATIONS = {"silu": "swish"}


def tell(**line: Any) -> None:
    """One line of JSON to who started this."""
    print(json.dumps(line), flush=True)


def built(job: dict[str, Any]) -> Any:
    """The model that the job's layers say."""
    layers = [tf.keras.Input(tuple(job["input_shape"]))]
    for layer in job["layers"]:
        names = _OLDER.get(layer["class"], {})
        config = {names.get(name, name): value for name, value in layer["config"].items()}
        if config.get("activation") in _ACTIVATIONS:
            config["activation"] = _ACTIVATIONS[config["activation"]]
        layers.append(getattr(tf.keras.layers, layer["class"])(**config))
    return tf.keras.Sequential(layers)


def loss_of(job: dict[str, Any]) -> Any:
    """The loss of single records, unreduced."""
    kinds = tf.keras.losses
    if job["loss"] == "mean_squared_error":
        return kinds.MeanSquaredError(reduction=kinds.Reduction.NONE)
    kind = {"binary": kinds.BinaryCrossentropy, "classes": kinds.SparseCategoricalCrossentropy}[job["loss"]]
    return kind(from_logits=job["from_logits"], reduction=kinds.Reduction.NONE)


def optimizer_of(job: dict[str, Any]) -> Any:
    """TensorFlow Privacy's optimizer. It divides by the batch's places; the rate makes that the expected batch."""
    settings = {
        "l2_norm_clip": job["clipping_norm"],
        "noise_multiplier": job["noise_multiplier"],
        "num_microbatches": job["places"],
    }
    if job["optimizer"] == "adam":  # its steps do not change with a gradient's scale
        epsilon = 1e-7 * job["batch"] / job["places"]
        return dp_optimizer_keras.DPKerasAdamOptimizer(learning_rate=job["rate"], epsilon=epsilon, **settings)
    rate = job["rate"] * job["places"] / job["batch"]
    return dp_optimizer_keras.DPKerasSGDOptimizer(learning_rate=rate, momentum=job["momentum"], **settings)


def main(folder: Path) -> None:
    """Make the model, show it, and train it when told to."""
    job = json.loads((folder / "job.json").read_text())
    model, loss, optimizer = built(job), loss_of(job), optimizer_of(job)
    with np.load(folder / "weights.npz", allow_pickle=False) as weights:
        model.set_weights([weights[str(number)] for number in range(len(weights.files))])
    with np.load(folder / "probe.npz", allow_pickle=False) as probe:
        outputs = model(probe["inputs"], training=False).numpy()
    variables = model.trainable_variables

    @tf.function  # type: ignore[untyped-decorator]
    def gradients(inputs: Any, targets: Any, present: Any) -> Any:
        def losses() -> Any:
            return loss(targets, model(inputs, training=True)) * present

        return [gradient for gradient, _ in optimizer._compute_gradients(losses, variables)]

    places, width = job["places"], tuple(job["input_shape"])
    nothing = np.zeros((places, *width), np.float32), np.zeros((places, 1), np.float32), np.zeros(places, np.float32)
    gradients(*nothing)  # whatever this TensorFlow cannot do, it says before it is given rows
    tell(outputs=outputs.astype(float).tolist())
    if sys.stdin.readline().strip() != "train":
        return

    with np.load(folder / "rows.npz", allow_pickle=False) as rows:
        all_inputs, all_targets = rows["inputs"], rows["targets"]
    random = np.random.default_rng()  # seeded by the system
    for epoch in range(1, job["epochs"] + 1):
        for _ in range(job["steps"]):
            joined = np.flatnonzero(random.random(len(all_inputs)) < job["sampling_rate"])[:places]
            inputs, targets, present = (part.copy() for part in nothing)
            inputs[: len(joined)], targets[: len(joined)] = all_inputs[joined], all_targets[joined]
            present[: len(joined)] = 1
            noised = gradients(inputs, targets, present)
            optimizer.apply_gradients(zip(noised, variables, strict=True))
        tell(epoch=epoch)
    np.savez(folder / "trained.npz", **{str(number): array for number, array in enumerate(model.get_weights())})
    tell(done=True)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except Exception as error:
        tell(error=f"{type(error).__name__}: {str(error)[:300]}")
        sys.exit(1)
