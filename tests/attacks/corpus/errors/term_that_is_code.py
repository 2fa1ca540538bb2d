# tries: Write Python into a term of a regression, which has a grammar of its own.
# must: refused
def attack(running):
    """Reached would be a release, or what the code does."""
    codes = ("eval('1')", "__import__('os').system('id')", "age.__class__", "age if cough else 0", "log(age, age)")
    return any(running.accepts("regression", mechanism={"terms": [code]}) for code in codes)
