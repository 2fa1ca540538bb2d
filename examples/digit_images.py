"""Write three hospitals' folders of images: each a table, its schema, and a PNG file for each record.

    python examples/digit_images.py digits
    datasite publish digits/north/digits.csv --schema digits/north/digits.toml --patients 400

The images are the 1,797 handwritten digits of 8 by 8 pixels that scikit-learn ships (Alpaydin & Kaynak 1998). The first
597 are public, for `fine_tuning.py`; the others are dealt out to the three, and each stands for a patient. The table
names each record's file, relative to the table's own folder.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.datasets import load_digits

HOSPITALS = ("north", "east", "south")
PUBLIC = 597
SCHEMA = """\
name = "digits"
population = "{hospital}-patients"
patient = "patient"
target = "digit"
holdout = 0.2
most_records_per_patient = 1  # so that what a frozen body computes of a record is computed once a round

[columns.digit]
kind = "category"
categories = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]

[tensors.image]
shape = [1, 8, 8]           # of one record: channels, height, width
dtype = "uint8"
minimum = 0                 # as PNG has them; declared, and not taken from the images
maximum = 255
header = "file"             # the table's column that names each record's file
description = "A handwritten digit"
"""


def pictures(*, public: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, 8, 8], as PNG has them, and which digit each shows: the public ones, or those of patients."""
    digits, chosen = load_digits(), slice(PUBLIC) if public else slice(PUBLIC, None)
    return np.rint(digits.images[chosen] * (255 / 16)).astype(np.uint8), digits.target[chosen]


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "digits")
    images, labels = pictures()
    for number, hospital in enumerate(HOSPITALS):
        (folder / hospital / "images").mkdir(parents=True, exist_ok=True)
        chosen = range(number, len(images), len(HOSPITALS))
        for place in chosen:
            Image.fromarray(images[place]).save(folder / hospital / "images" / f"{place:04}.png")
        table = pd.DataFrame(
            {
                "patient": [f"{hospital}-{place}" for place in chosen],
                "digit": labels[chosen],
                "file": [f"images/{place:04}.png" for place in chosen],
            }
        )
        table.to_csv(folder / hospital / "digits.csv", index=False)
        (folder / hospital / "digits.toml").write_text(SCHEMA.format(hospital=hospital), encoding="utf-8")
        print(f"Wrote {folder / hospital}: {len(table)} images.")
