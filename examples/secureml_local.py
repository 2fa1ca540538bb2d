"""SecureML's call on a table of your own: trained here, privately, with a ledger and certificates.

    python examples/secureml_local.py

It needs the datasite's engine beside the researcher's package (Linux): `private-datasites[datasite,researcher]`. No
hospital is asked. The same call gives the same model again, and is paid for once.
"""

from sklearn.datasets import load_breast_cancer
from torch import nn

from researcher.secureml import differentially_private_train

table = load_breast_cancer(as_frame=True).frame[
    ["mean radius", "mean texture", "mean perimeter", "mean area", "mean smoothness", "mean compactness", "target"]
]
# What is possible for anybody, from a textbook: bounds decide what the noise hides, so they never come from the data.
bounds = {
    "mean radius": (5, 30),
    "mean texture": (5, 45),
    "mean perimeter": (30, 220),
    "mean area": (100, 3000),
    "mean smoothness": (0, 0.2),
    "mean compactness": (0, 0.5),
}
model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))

trained = differentially_private_train(
    model,
    table,
    epsilon=2.0,
    max_grad_norm=1.0,
    criterion=nn.CrossEntropyLoss(),
    epochs=5,
    batch_size=64,
    learning_rate=0.05,
    validation_split=0,
    bounds=bounds,
    ledger="my-ledger",
)

chances = trained.predict(table)  # of each class, for rows like those that it was trained on
right = (chances.argmax(axis=1) == table["target"]).mean()
print(f"{right:.0%} of the table's rows are told right, for ε = {trained.secureml.epsilon:.3f} of each.")
print(f"{len(trained.secureml.certificates)} certificates; the ledger is {trained.secureml.ledger.name}.")
