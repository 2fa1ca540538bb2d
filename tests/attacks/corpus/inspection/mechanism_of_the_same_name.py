# tries: Define a mechanism oneself that returns the rows.
# must: inspection class
def attack(records, weights, round):
    def dp_sgd(model, records, weights, round, **settings):
        return {"w": records[:2]}

    class Model:
        pass

    return dp_sgd(Model, records, weights, round)
