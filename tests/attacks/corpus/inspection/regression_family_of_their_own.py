# tries: Bring a link of a regression as a function.
# must: inspection literal
def attack(records, round):
    from datasites.mechanisms import regression

    return regression(records, round, outcome='temperature', terms=['age'], family=lambda y: y, epsilon=0.5)
