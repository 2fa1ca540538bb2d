# is: A count of a cohort
def cohort(records, round):
    from datasites.mechanisms import statistics

    return statistics(records, round, count=True, where="age >= 65 and cough", epsilon=0.1)
