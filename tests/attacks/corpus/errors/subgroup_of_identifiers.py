# tries: Have an evaluation answer each patient apart, by the column that identifies them.
# must: refused
def attack(running):
    """Reached would be a release with a group for every patient."""
    return any(
        running.accepts("evaluate", mechanism={"subgroups": [subgroup]}, rows=running.rows())
        for subgroup in ("patient", ["patient", 1, 2], "held_out", ["age", 30.0, 30.0])
    )
