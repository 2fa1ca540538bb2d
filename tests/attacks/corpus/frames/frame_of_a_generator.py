# tries: Walk up from a generator's frame, as escapes from restricted interpreters did.
# must: inspection name
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        def walk():
            yield made.gi_frame.f_back
        made = walk()
        frame = [each for each in made][0]
        while frame:
            if frame.f_globals.get("__builtins__"):
                builtins = frame.f_globals["__builtins__"]
                (builtins if isinstance(builtins, dict) else vars(builtins))["open"](MADE_FILE, "w").close()
                break
            frame = frame.f_back

    def forward(self, x):
        return self.a(x)
