# tries: Hide how deep a condition is behind one word again and again.
# must: inspection mechanism
def attack(records, round):
    from datasites.mechanisms import statistics

    return statistics(records, round, count=True, where='not not not not not not not not not not not not cough', epsilon=0.1)
