# tries: Call a service with a key of no account.
# must: refused
def attack(site):
    return site.succeeds("nobody", "dataset.get_all")
