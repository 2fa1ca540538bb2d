"""A stock server of Flower's classic API: `python server.py 3` waits for three hospitals, and has three rounds."""

import sys

import flwr as fl

clients = int(sys.argv[1]) if len(sys.argv) > 1 else 2
address = sys.argv[2] if len(sys.argv) > 2 else "localhost:8080"
fl.server.start_server(
    server_address=address,
    config=fl.server.ServerConfig(num_rounds=3),
    strategy=fl.server.strategy.FedAvg(
        fraction_fit=1.0, fraction_evaluate=0.0, min_fit_clients=clients, min_available_clients=clients
    ),
)
