# is: How much is missing
def missing(records, round):
    from datasites.mechanisms import statistics

    return statistics(records, round, missing=['temperature', 'age'], epsilon=0.2)
