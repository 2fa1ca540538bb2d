"""A FedAvg study as people run it on Flower's SuperLink and SuperNodes: plain training, on made-up patients. An app."""

import json
import time
from pathlib import Path

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from torch import nn

client = ClientApp()
server = ServerApp()


class FluPredictor(nn.Module):
    """That of `tests.relays.models`: an app is carried to the nodes by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.output = nn.Linear(4, 8), nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.output(torch.relu(self.hidden(x))))


def rows(path: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets of the table that `tests.factories.write_table` made."""
    table = np.genfromtxt(path, delimiter=",", skip_header=1, usecols=(1, 2, 3, 4, 5), dtype=np.float32)
    inputs = np.column_stack([table[:, 0] / 50 - 1, (table[:, 1] - 38) / 4, table[:, 2], table[:, 3]])
    return torch.from_numpy(inputs.astype(np.float32)), torch.from_numpy(table[:, 4:5])


@client.train()
def train(message: Message, context: Context) -> Message:
    """So many steps of SGD on Poisson samples of a node's own table."""
    torch.set_num_threads(1)
    model, config = FluPredictor(), context.run_config
    model.load_state_dict(
        {name: torch.from_numpy(value.numpy().copy()) for name, value in message.content["arrays"].items()}
    )
    inputs, targets = rows(str(context.node_config["table"]))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for _ in range(int(config["steps"])):
        sampled = torch.rand(len(inputs)) < 0.1
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy(model(inputs[sampled]), targets[sampled]).backward()
        optimizer.step()
    arrays = ArrayRecord({name: Array(value.detach().numpy()) for name, value in model.state_dict().items()})
    content = {"arrays": arrays, "metrics": MetricRecord({"num-examples": len(inputs)})}
    return Message(RecordDict(content), reply_to=message)


@server.main()
def main(grid: Grid, context: Context) -> None:
    """FedAvg over all nodes; when each round was aggregated stands in the file that the run names."""
    nodes, times = int(context.run_config["nodes"]), [time.monotonic()]
    torch.manual_seed(1)
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=nodes, min_available_nodes=nodes)
    aggregate = strategy.aggregate_train

    def heard(number, replies):
        replies = list(replies)
        assert len(replies) == nodes
        assert not any(reply.has_error() for reply in replies)
        aggregated = aggregate(number, replies)
        times.append(time.monotonic())
        return aggregated

    strategy.aggregate_train = heard
    arrays = ArrayRecord({name: Array(value.detach().numpy()) for name, value in FluPredictor().state_dict().items()})
    strategy.start(grid=grid, initial_arrays=arrays, num_rounds=int(context.run_config["rounds"]), timeout=300)
    Path(str(context.run_config["times"])).write_text(json.dumps(times))
