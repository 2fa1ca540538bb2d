# tries: Ask about a table without a row, and see whether the run fails.
# must: refused
def attack(running):
    return not running.accepts(rows=running.rows()[:0]) or not running.accepts("statistics", rows=running.rows()[:0])
