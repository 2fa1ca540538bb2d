# tries: Nest brackets until the parser fails.
# must: inspection depth
def attack(records, weights, round):
    return ((((((((((((((((((((((((((((((((((((((((DONE))))))))))))))))))))))))))))))))))))))))
