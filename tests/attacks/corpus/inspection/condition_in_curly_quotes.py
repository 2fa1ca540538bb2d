# tries: Close a quote where no reader sees it.
# must: inspection mechanism
def attack(records, round):
    from datasites.mechanisms import statistics

    return statistics(records, round, count=True, where='ward == ‘icu’ or ’x’ == ’x’', epsilon=0.1)
