# tries: Bring times, events and groups that are no numbers, and see whether a survival table fails.
# must: refused
import numpy as np


def attack(running):
    """It ends as every other: reached would be a failure, which tells one bit of the data."""
    rows = running.rows()
    rows[3, 2], rows[4, 2], rows[5, 4], rows[6, 5], rows[7, 2:] = np.inf, np.nan, 1e308, -np.inf, -1e308
    return not running.accepts("survival", rows=rows)
