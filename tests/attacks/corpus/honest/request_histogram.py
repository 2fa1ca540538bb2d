# is: A histogram
def histogram(records, round):
    from datasites.mechanisms import statistics

    return statistics(records, round, histogram='age', epsilon=0.2)
