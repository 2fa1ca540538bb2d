# tries: Let torch's distributed package connect.
# must: inspection import
import torch.distributed as dist
from datetime import timedelta
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        dist.TCPStore("127.0.0.1", TCP_PORT, is_master=False, timeout=timedelta(seconds=1), wait_for_workers=False)

    def forward(self, x):
        return self.a(x)
