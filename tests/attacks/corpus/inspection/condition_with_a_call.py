# tries: Act in the text of a cohort's condition.
# must: inspection mechanism
def attack(records, round):
    from datasites.mechanisms import statistics

    return statistics(records, round, count=True, where="__import__('os').system('true')", epsilon=0.1)
