# tries: End the grid of survival where a value of the records lies.
# must: inspection literal
def attack(records, round):
    from datasites.mechanisms import kaplan_meier

    return kaplan_meier(records, round, time='age', event='influenza', until=records.max(), epsilon=0.2)
