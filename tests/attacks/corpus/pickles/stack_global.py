# tries: The same with the newer opcode for names, which old scanners do not read.
# must: inspection import
import pickle
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        text = MADE_FILE.encode()
        pickle.loads(b"\x80\x04\x8c\x05posix\x8c\x05mkdir\x93\x8c" + bytes([len(text)]) + text + b"\x85R.")

    def forward(self, x):
        return self.a(x)
