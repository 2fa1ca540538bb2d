"""What the hospitals are asked for, before one of Flower's programs drives it: this is what their owners read.

    researcher submit examples/flower/study.py && researcher wait examples/flower/study.py
    researcher flower-run examples/flower/server_app.py --study examples/flower/study.py

A stock server takes a study of its own. With STUDY=flower-server before each command, and `server.py` in another shell:

    researcher flower-client localhost:8080 --study examples/flower/study.py
"""

import os

from task import Net

import researcher

network = researcher.connect(os.environ.get("NETWORK", "network.toml"))
training = researcher.Training(
    loss="binary_cross_entropy",
    rounds=3,
    steps=10,
    sampling_rate=0.1,
    clipping_norm=4.0,
    learning_rate=0.35,
    epsilon=0.3,
)
study = researcher.Study(
    os.environ.get("STUDY", "flower-app"), network.dataset("flu"), Net, training, purpose="To see Flower drive it."
)
