# tries: Nest a condition so deeply that reading it takes long.
# must: inspection mechanism
def attack(records, round):
    from datasites.mechanisms import statistics

    return statistics(records, round, count=True, where='((((((((((((age > 5))))))))))))', epsilon=0.1)
