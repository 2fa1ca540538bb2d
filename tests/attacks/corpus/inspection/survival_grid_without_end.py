# tries: Cut time into more intervals than a table holds.
# must: inspection mechanism
def attack(records, round):
    from datasites.mechanisms import kaplan_meier

    return kaplan_meier(records, round, time='age', event='influenza', bins=1000000000, epsilon=0.2)
