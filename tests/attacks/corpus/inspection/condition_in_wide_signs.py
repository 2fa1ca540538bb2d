# tries: Compare by a sign that looks like another.
# must: inspection mechanism
def attack(records, round):
    from datasites.mechanisms import statistics

    return statistics(records, round, count=True, where='age ＞ 65', epsilon=0.1)
