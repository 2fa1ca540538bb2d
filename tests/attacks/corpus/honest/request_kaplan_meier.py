# is: Survival by group
def survival(records, round):
    from datasites.mechanisms import kaplan_meier

    return kaplan_meier(records, round, time='age', event='influenza', by='cough', until=90, bins=30, epsilon=0.2)
