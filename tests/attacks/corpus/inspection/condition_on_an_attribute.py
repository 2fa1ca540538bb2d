# tries: Reach an attribute of a column in a condition.
# must: inspection mechanism
def attack(records, round):
    from datasites.mechanisms import statistics

    return statistics(records, round, count=True, where='age.real.denominator == 1', epsilon=0.1)
