# is: A linear regression
def fitted(records, round):
    from datasites.mechanisms import regression

    return regression(
        records, round, outcome='temperature', terms=['age', 'influenza', 'age * influenza'], family='gaussian',
        outcome_range=(35, 41), epsilon=0.5,
    )
