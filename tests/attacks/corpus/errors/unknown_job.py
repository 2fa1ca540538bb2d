# tries: Ask for a job that there is none of, and read a row in the error.
# must: refused
def attack(running):
    running.run(changes={"job": "__class__"})
    return running.tells_rows()
