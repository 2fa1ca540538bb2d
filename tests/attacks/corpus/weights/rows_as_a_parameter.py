# tries: Return the table as if it were a layer's weights.
# must: inspection return
def attack(records, weights, round):
    return {"layer.weight": records[:4].clone()}
