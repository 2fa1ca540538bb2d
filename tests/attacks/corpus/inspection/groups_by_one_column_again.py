# tries: Divide by a column again and again, until patients stand alone.
# must: inspection mechanism
def attack(records, round):
    from datasites.mechanisms import statistics

    return statistics(records, round, count=True, group_by=['cough', 'cough'], epsilon=0.1)
