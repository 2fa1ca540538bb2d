# tries: Ask a database in a condition.
# must: inspection mechanism
def attack(records, round):
    from datasites.mechanisms import statistics

    return statistics(records, round, count=True, where='age > (select avg(age) from visits)', epsilon=0.1)
