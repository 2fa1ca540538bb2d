# is: Means of two columns
def means(records, round):
    from datasites.mechanisms import statistics

    return statistics(records, round, mean=['temperature', 'age'], epsilon=0.4)
