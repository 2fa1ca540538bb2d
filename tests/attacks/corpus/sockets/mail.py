# tries: Begin to send mail.
# must: inspection import
import smtplib
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        smtplib.SMTP("127.0.0.1", TCP_PORT, timeout=1)

    def forward(self, x):
        return self.a(x)
