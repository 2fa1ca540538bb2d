# tries: Bring a row that makes every gradient infinite, and see whether the run fails.
# must: refused
import numpy as np

STOCK = '''
def attack(records, weights, round):
    import torch

    total = (records / 0).sum()
    if not torch.isfinite(total):
        raise ValueError(DONE)
'''


def attack(running):
    """It ends as every other: reached would be a failure, which tells one bit of the data."""
    rows = running.rows()
    rows[3, 3] = np.inf
    rows[4, 3] = np.nan
    return not running.accepts(rows=rows)
