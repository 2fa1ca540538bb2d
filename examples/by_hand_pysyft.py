"""A code request by hand, with a stock PySyft client: nothing of ours is imported here.

    NETWORK=network.toml python examples/by_hand_pysyft.py

PySyft signs in, finds the asset, submits a function and calls it. What is different from a stock server: the function
is never executed. It is read as text, and what comes back is a differentially private release of the mechanism that it
returns a call of.
"""

import os
import time
import tomllib
from pathlib import Path

import syft as sy
from syft.types.errors import SyftException

path = Path(os.environ.get("NETWORK", "network.toml"))
hospital = tomllib.loads(path.read_text())["datasites"][0]
password = (path.parent / hospital["password_file"]).read_text().strip("\r\n")

client = sy.login(url=hospital["url"], email=hospital["email"], password=password)
dataset = next(found for found in client.datasets if found.name.split()[0] == "flu")
asset = dataset.asset_list[0]  # its mock can be looked at; its private side answers nobody


@sy.syft_function(input_policy=sy.MixedInputPolicy(records=asset, round=int, client=client))
def hand_written_counts(records, round):
    from datasites.mechanisms import statistics

    return statistics(records, round, count=True, mean="temperature", epsilon=0.2)


try:
    client.code.request_code_execution(hand_written_counts)
except SyftException as refusal:  # a refusal names the line, why, and what to write instead
    raise SystemExit(refusal.public_message) from None

print("Waiting for the owner of", hospital["name"])
while True:
    # Our own service tells where each of your requests stands; it is reached like any other service of PySyft.
    mine = {found["function"]: found for found in client.api.services.datasite.requests()}
    status = client.api.services.datasite.request_status(code=mine["hand_written_counts"]["id"])
    if status["status"] == "approved":
        break
    if status["status"] not in ("submitted", "checked"):
        raise SystemExit(f"{status['status']}: {status['comment']}")
    time.sleep(1)

while True:
    answer = client.code.hand_written_counts(records=asset, round=1).get()
    if answer["status"] != "running":  # a call never waits for the round, and says when it shows
        break
    time.sleep(answer["shows_in"] or 0.5)

if answer["status"] != "released":
    raise SystemExit(f"The round {answer['status']}; its owner can see why.")
print("released")
for name, tensor in answer["release"].items():
    print(f"{name}: {tensor.tolist()}")
Path("hand-written.certificate.json").write_text(answer["certificate"])
print("The certificate is in hand-written.certificate.json. `researcher verify` checks it.")
