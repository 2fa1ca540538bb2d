# tries: Declare a regression whose sums get no noise.
# must: inspection mechanism
def attack(records, round):
    from datasites.mechanisms import regression

    return regression(records, round, outcome='temperature', terms=['age'], family='gaussian', noise_multiplier=0.0)
