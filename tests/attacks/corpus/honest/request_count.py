# is: A count of patients
def count(records, round):
    from datasites.mechanisms import statistics

    return statistics(records, round, count=True, epsilon=0.1)
