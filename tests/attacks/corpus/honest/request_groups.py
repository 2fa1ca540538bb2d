# is: A mean by bands and a label
def groups(records, round):
    from datasites.mechanisms import statistics

    return statistics(records, round, mean='temperature', group_by={'age': [18, 65], 'cough': []}, epsilon=0.3)
