# tries: End a condition early by a comment of another language.
# must: inspection mechanism
def attack(records, round):
    from datasites.mechanisms import statistics

    return statistics(records, round, count=True, where="age >= 65 -- and ward == 'icu'", epsilon=0.1)
