"""Write three hospitals' folders of made-up electrocardiograms: each a table, its schema, and a WFDB record each.

    python examples/ecg_signals.py ecg
    datasite publish ecg/north/ecg.csv --schema ecg/north/ecg.toml --patients 400

Heartbeats are sums of five bumps (after McSharry et al. 2003, doi:10.1109/TBME.2003.808805) with noise and a wandering
base line; in every second one the ventricles take longer, as in bundle branch block. The three hospitals record at
different rates and the schema declares one, so that publishing resamples. Every tenth recording stopped early, and is
filled up as the schema declares.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

HOSPITALS = {"north": 500, "east": 360, "south": 250}  # Hz
SECONDS, RECORDS, GAIN = 10, 400, 1000  # of each record; of each hospital; whole numbers a millivolt
EARLY = 7  # seconds of a recording that stopped
SCHEMA = """\
name = "ecg"
population = "{hospital}-cardiology"
patient = "patient"
target = "conduction"
holdout = 0.2

[columns.conduction]
kind = "category"
categories = ["normal", "block"]

[tensors.ecg]
shape = [1, 400]            # of one record: channels, samples
dtype = "float16"
minimum = -1.5
maximum = 1.5
outside = "clamp"
unit = "mV"
channels = ["II"]           # each file has V1 beside it
sampling_rate = 50          # Hz: publishing resamples what was recorded otherwise
window = "middle"           # 8 of the 10 seconds
shorter = "pad"             # 0 mV after the last sample of a recording that stopped before 8 seconds
header = "record"
"""
# Of each bump: seconds from the beat, millivolts, seconds wide. P, Q, R, S, T.
BUMPS = ((-0.2, 0.15, 0.025), (-0.035, -0.15, 0.01), (0.0, 1.1, 0.012), (0.035, -0.25, 0.01), (0.28, 0.3, 0.05))


def lead(rate: int, block: bool, random: np.random.Generator) -> np.ndarray:
    """Millivolts of one lead."""
    times = np.arange(SECONDS * rate) / rate
    beats = np.cumsum(random.uniform(0.7, 1.0) * random.normal(1, 0.04, size=16)) - random.uniform(0, 0.8)
    values = 0.1 * np.sin(2 * np.pi * (0.25 * times + random.uniform())) + random.normal(0, 0.03, times.shape)
    for beat in beats:
        for place, (after, height, width) in enumerate(BUMPS):
            slower = 2.5 if block and 1 <= place <= 3 else 1.0
            values += height * np.exp(-0.5 * ((times - beat - after * slower) / (width * slower)) ** 2)
    return values


def write_record(path: Path, rate: int, leads: dict[str, np.ndarray]) -> None:
    """A header and 16-bit samples; `wfdb.wrsamp` of the package of that name writes the same."""
    samples = np.rint(np.stack(list(leads.values()), axis=1) * GAIN).astype("<i2")
    path.with_suffix(".dat").write_bytes(samples.tobytes())
    lines = [f"{path.name} {len(leads)} {rate} {len(samples)}"]
    lines += [
        f"{path.name}.dat 16 {GAIN}(0)/mV 16 0 {samples[0, place]} 0 0 {name}" for place, name in enumerate(leads)
    ]
    path.with_suffix(".hea").write_text("\n".join([*lines, "# Comments stay here: publishing reads none.", ""]))


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "ecg")
    random = np.random.default_rng(2026)
    for hospital, rate in HOSPITALS.items():
        records = folder / hospital / "records"
        records.mkdir(parents=True, exist_ok=True)
        blocked = random.random(RECORDS) < 0.5
        for place, block in enumerate(blocked):
            leads = {name: lead(rate, block, random) for name in ("II", "V1")}
            if place % 10 == 9:
                leads = {name: values[: EARLY * rate] for name, values in leads.items()}
            write_record(records / f"{place:04}", rate, leads)
        table = pd.DataFrame(
            {
                "patient": [f"{hospital}-{place}" for place in range(RECORDS)],
                "conduction": np.where(blocked, "block", "normal"),
                "record": [f"records/{place:04}.hea" for place in range(RECORDS)],
            }
        )
        table.to_csv(folder / hospital / "ecg.csv", index=False)
        (folder / hospital / "ecg.toml").write_text(SCHEMA.format(hospital=hospital), encoding="utf-8")
        print(f"Wrote {folder / hospital}: {RECORDS} records at {rate} Hz.")
