# tries: Have survival or a regression read the column that identifies patients.
# must: refused
def attack(running):
    """Reached would be a release with a group, a time or a term of every patient."""
    survival = {"by": "patient"}, {"time": "patient"}, {"event": "held_out", "by": None}
    regression = {"terms": ["patient"]}, {"outcome": "patient"}, {"terms": ["bands(patient, 1, 2)"]}
    return any(running.accepts("survival", mechanism=changes) for changes in survival) or any(
        running.accepts("regression", mechanism=changes) for changes in regression
    )
