# tries: Bring outcomes and inputs that are no numbers, one value for everybody, or nobody, and see whether sums fail.
# must: refused
import numpy as np


def attack(running):
    """It ends as every other: reached would be a failure, which tells one bit of the data."""
    spoilt, alike = running.rows(), running.rows()
    spoilt[3, 2], spoilt[4, 3], spoilt[5, 4], spoilt[6, 5], spoilt[7, 2:] = np.inf, np.nan, 1e308, -np.inf, -1e308
    alike[:, 2:] = alike[0, 2:]
    tables = spoilt, alike, running.rows()[:0], running.rows()[:1]
    return not all(running.accepts("regression", rows=rows) for rows in tables)
