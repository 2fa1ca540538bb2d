# tries: Fail with a traceback that shows the variables.
# must: inspection import
def attack(records, weights, round):
    import sys, traceback

    row = float(records[0, 0])
    try:
        1 / 0
    except ZeroDivisionError:
        sys.__stderr__.write("".join(traceback.TracebackException(*sys.exc_info(), capture_locals=True).format()))
        sys.__stderr__.flush()
    return {"w": records.sum() * 0}
