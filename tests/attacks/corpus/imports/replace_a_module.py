# tries: Exchange a module that the exporter will use for one of one's own.
# must: inspection import
import sys, os, types
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        class Evil(types.ModuleType):
            def __getattr__(self, name):
                os.mkdir(MADE_FILE)
        sys.modules["policies.graph.graphs"] = sys.modules["syft.service.code.user_code"] = Evil("x")
        import policies.graph.graphs
        policies.graph.graphs.Graph

    def forward(self, x):
        return self.a(x)
