# tries: Look for a row in what a run printed for the owner.
# must: refused
def attack(running):
    for job in ("train", "statistics"):
        if running.run(job) is None or running.tells_rows():
            return running.told
    return ""
