# tries: Ask a server for its peers with a key of no account.
# must: refused
def attack(site):
    return site.succeeds("nobody", "network.get_all_peers")
