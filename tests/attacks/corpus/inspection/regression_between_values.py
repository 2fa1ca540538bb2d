# tries: Hold an outcome to bounds that are values of the records.
# must: inspection literal
def attack(records, round):
    from datasites.mechanisms import regression

    return regression(records, round, outcome='temperature', terms=['age'], family='gaussian',
                      outcome_range=(records.min(), records.max()), epsilon=0.5)
