# is: Three quantiles
def quantiles(records, round):
    from datasites.mechanisms import statistics

    return statistics(records, round, quantiles={'age': [0.25, 0.5, 0.75]}, epsilon=0.5)
