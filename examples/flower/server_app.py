"""A ServerApp as Flower's guides write it; nothing in it knows of hospitals or privacy."""

from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from task import Net

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    least = int(context.run_config.get("min-nodes", 2))
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=least, min_available_nodes=least)
    result = strategy.start(grid=grid, initial_arrays=ArrayRecord(Net().state_dict()), num_rounds=3)
    print(f"The joint model has {sum(array.numpy().size for array in result.arrays.values())} numbers.")
