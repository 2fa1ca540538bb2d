"""Draft `[tensors.NAME]` for a column that holds lists of numbers or names files of images, signals or volumes.

As of every draft, no size, bound or rate is taken from the data: they are left to fill in.
"""

from __future__ import annotations

from typing import Any

from datasites.vault.tensor_values import ARRAYS, DICOM, IMAGES, SIGNALS, VOLUMES
from policies.schema.toml import quoted

BOUNDS = """\
# minimum = {minimum}           # fill in: what is possible, in the source's units
# maximum = {maximum}
outside = "clamp"         # or "refuse\""""
KEPT = 'dtype = "{dtype}"         # how finely it is kept: uint8, float16 or float32'
DRAFTS = {
    "images": (
        "# shape = [1, 64, 64]   # fill in: channels (1 or 3), height, width",
        KEPT.format(dtype="uint8"),
        BOUNDS.format(minimum="0", maximum="255"),
        'resize = "area"           # or "bilinear", or "refuse"',
    ),
    "volumes": (
        "# shape = [1, 64, 64, 64]      # fill in: 1 and the sizes from left to right, back to front, bottom to top",
        KEPT.format(dtype="uint8"),
        BOUNDS.format(minimum="", maximum=""),
        'resize = "area"           # or "refuse"',
    ),
    "signals": (
        "# shape = [1, 1000]     # fill in: channels, samples",
        KEPT.format(dtype="float16"),
        BOUNDS.format(minimum="-5", maximum="5"),
        "# sampling_rate = 100   # fill in, in Hz: publishing resamples what was recorded otherwise",
        '# channels = ["II"]     # names of those that are taken; left out, all',
        'window = "start"          # or "middle", or "refuse": which samples of a longer signal',
        'shorter = "refuse"        # or "pad": after a shorter signal\'s last sample comes `padding`, or 0',
    ),
    "codes": (
        "# shape = [32]          # fill in: places of a sequence",
        '# vocabulary = []      # fill in every code that is told apart, as ["E11", "I10"]; none is copied for you',
        'outside = "clamp"         # any other code counts as one; or "refuse"',
        'window = "end"            # or "start", "middle", "refuse": which codes of a longer sequence',
    ),
    "arrays": (
        "# shape = [100]         # fill in: sizes of one record",
        KEPT.format(dtype="float16"),
        BOUNDS.format(minimum="", maximum=""),
    ),
}
FAMILIES = {"images": (*IMAGES, *DICOM), "volumes": VOLUMES, "signals": SIGNALS, "arrays": ARRAYS}


def tensor_draft(header: str, name: str, array: Any) -> str:
    """TOML text of a tensor's draft; nothing where the column holds none.

    Args:
      header: as the table has it.
      name: a safe one.
      array: pyarrow's, of the table's first rows.
    """
    family = _family(array)
    if not family:
        return ""
    read = "read off the table" if family in ("arrays", "codes") else f"it names files: {family}"
    lines = [f"[tensors.{quoted(name)}]      # {read}"]
    lines += [f"header = {quoted(header)}"] if header != name else []
    return "\n".join([*lines, *DRAFTS[family]]) + "\n"


def _family(array: Any) -> str:
    from pyarrow import types

    if any(is_one(array.type) for is_one in (types.is_list, types.is_large_list, types.is_fixed_size_list)):
        inner = array.type.value_type
        while types.is_list(inner) or types.is_large_list(inner) or types.is_fixed_size_list(inner):
            inner = inner.value_type
        if types.is_string(inner) or types.is_large_string(inner):
            return "codes"
        return "arrays" if types.is_integer(inner) or types.is_floating(inner) else ""
    if not (types.is_string(array.type) or types.is_large_string(array.type)):
        return ""
    names = [str(cell).lower() for cell in array.to_pylist() if cell is not None and str(cell).strip()]
    return next((family for family, kinds in FAMILIES.items() if names and all(n.endswith(kinds) for n in names)), "")
