"""Statistics of every hospital and of all together, each with its error.

NETWORK=network.toml python examples/counts_and_means.py
"""

import os

import researcher

flu = researcher.connect(os.environ.get("NETWORK", "network.toml")).dataset("flu")

# The mock is drawn from the schema alone. Use it to try code on, and for nothing else: it says nothing of patients.
print(flu.mock.head())

# ε is for all of these together, at each hospital. Ask for what you need: each statistic gets an equal part of it.
study = flu.statistics(
    count=True,
    mean="temperature",
    histogram="age",
    bins=9,
    epsilon=0.2,
    name="example-statistics",
    purpose="To describe the patients of each hospital.",
)

if __name__ == "__main__":
    study.check()
    study.submit()
    study.wait_for_approval()
    result = study.run()
    print(result)

    # Two kinds of error are kept apart: of the noise, and of having a sample of people rather than all of them.
    temperature = result["mean/temperature"]
    value, low, high = temperature.shown  # with the digits that the error allows; `.value` and `.interval` have all
    print(f"Mean temperature {value} {temperature.unit}, 95 % from {low} to {high}")
    print(f"  of the error, noise {temperature.noise_error:.3f} and sampling {temperature.sampling_error:.3f}")
