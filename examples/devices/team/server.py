"""The team's side: waits for its devices, says what their answers can be, asks them, and prints what came of it."""

import time

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

import researcher
from researcher.devices.flower import FlowerDevices

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    wanted = int(context.run_config["devices"])
    while len(list(grid.get_node_ids())) < wanted:
        time.sleep(0.5)
    report = researcher.DeviceReport(
        ["heart_rate"],
        {"heart_rate": (40, 200)},
        epsilon=1.0,
        name=str(context.run_config["name"]),
        shared_noise=bool(context.run_config["shared-noise"]),
    )
    print(report.check(wanted), flush=True)
    print(report.run(FlowerDevices(grid)), flush=True)
