"""Every column of a dataset described at once, as the first table of a paper, and a page with its plots.

NETWORK=network.toml python examples/describe.py
"""

import os

import researcher

flu = researcher.connect(os.environ.get("NETWORK", "network.toml")).dataset("flu")

# One histogram for each column, all of them together at one ε. Groups are disjoint, so they cost nothing further; the
# condition is text that every hospital's owner reads in the request.
study = flu.describe(
    epsilon=0.2,
    where="age >= 18",
    group_by="influenza",
    name="example-describe",
    purpose="To describe grown-up patients with influenza and without.",
)

if __name__ == "__main__":
    study.check()
    study.submit()
    study.wait_for_approval()
    result = study.run()

    table = result.describe()  # a DataFrame; result.describe("general") is one hospital's
    print(table[["records", "records ±", "mean", "mean ±", "50%", "most common"]].to_string())

    result.plot().savefig("describe.png")  # in a notebook, result.plot() shows itself
    print("Wrote", result.report("describe.html"))
