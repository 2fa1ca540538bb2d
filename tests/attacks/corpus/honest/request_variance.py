# is: A variance
def variance(records, round):
    from datasites.mechanisms import statistics

    return statistics(records, round, variance='temperature', epsilon=0.3)
