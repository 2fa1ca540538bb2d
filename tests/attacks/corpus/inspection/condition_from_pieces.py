# tries: Put a condition together where nobody reads it.
# must: inspection literal
def attack(records, round):
    from datasites.mechanisms import statistics

    return statistics(records, round, count=True, where='age >= ' + str(65), epsilon=0.1)
