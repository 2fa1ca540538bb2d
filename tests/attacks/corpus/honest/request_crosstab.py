# is: Two columns against each other
def crosstab(records, round):
    from datasites.mechanisms import statistics

    return statistics(records, round, crosstab=[('cough', 'influenza')], epsilon=0.3)
