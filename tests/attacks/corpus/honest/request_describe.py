# is: Every column described
def described(records, round):
    from datasites.mechanisms import statistics

    return statistics(records, round, describe=['temperature', 'age', 'cough'], bins=20, epsilon=0.5)
