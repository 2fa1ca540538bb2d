# tries: Send log lines over the network.
# must: inspection import
import logging.handlers
import logging
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        logging.handlers.DatagramHandler("127.0.0.1", UDP_PORT).emit(logging.makeLogRecord({"msg": "x"}))

    def forward(self, x):
        return self.a(x)
