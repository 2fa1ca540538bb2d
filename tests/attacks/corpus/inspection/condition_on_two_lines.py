# tries: Show an owner one line of a condition and mean two.
# must: inspection mechanism
def attack(records, round):
    from datasites.mechanisms import statistics

    return statistics(records, round, count=True, where='age >= 65\nor cough', epsilon=0.1)
