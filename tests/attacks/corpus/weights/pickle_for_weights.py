# tries: Send a pickle where weights are expected.
# must: refused
import os
import pickle

STOCK = '''
def attack(records, weights, round):
    import os, pickle

    class Evil:
        def __reduce__(self):
            return os.mkdir, (MADE_FILE,)

    pickle.loads(pickle.dumps(Evil()))
'''


class Evil:
    path = ""

    def __reduce__(self):
        return os.mkdir, (self.path,)


def attack(running):
    Evil.path = str(running.witnesses.made)
    return running.accepts(weights=pickle.dumps(Evil()))
