# is: A sum in each of three rounds
def sums_over_rounds(records, round):
    from datasites.mechanisms import statistics

    return statistics(records, round, sum='temperature', epsilon=0.2, rounds=3)
