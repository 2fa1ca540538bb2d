# tries: Fail with an object that shows a private row when it is shown.
# must: inspection class
def attack(records, weights, round):
    row = float(records[0, 0])

    class Shown(Exception):
        def __str__(self):
            return f"row {row}"

    raise Shown
