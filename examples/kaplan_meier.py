"""Survival of breast cancer patients with and without hormone therapy, beside what lifelines says of the table itself.

    NETWORK=network.toml python examples/kaplan_meier.py

`examples/public_tables.py` writes the table that a hospital publishes for it. As that table is public, the answer
without privacy may stand beside the hospital's; of a real hospital's patients nobody outside it has that column.
"""

import os

from lifelines import KaplanMeierFitter
from public_tables import breast_cancer

import researcher

cohort = researcher.connect(os.environ.get("NETWORK", "network.toml")).dataset("breast_cancer")

# One noisy table of time and event for each group: curves, bands, medians and the log-rank test are all made of it, so
# this ε is for everything below. The grid of time ends where it is still of interest and enough women are left.
study = cohort.kaplan_meier(
    "time",
    "recurred",
    by="horTh",
    epsilon=1.0,
    bins=20,
    until=2000,
    name="example-kaplan-meier",
    purpose="To see whether hormone therapy delays recurrence.",
)

if __name__ == "__main__":
    study.check()
    study.submit()
    study.wait_for_approval()
    result = study.run()
    print(result)  # medians and the log-rank test
    result.plot().savefig("kaplan_meier.png")  # in a notebook, result.plot() shows itself
    print("Wrote", result.report("kaplan_meier.html"))

    women, _ = breast_cancer()
    for therapy, curve in result.curves().items():
        chosen = women[women["horTh"] == therapy]
        truth = KaplanMeierFitter().fit(chosen["time"], chosen["recurred"]).predict(curve.times).to_numpy()
        low, high = curve.band
        inside = int(((low <= truth) & (truth <= high)).sum())
        print(f"Hormone therapy {therapy}: lifelines' curve is inside our 95 % band at {inside} of {len(truth)} times.")
        for time in (600, 1200):
            place = list(curve.times).index(time)
            print(f"  without recurrence after {time} days: {result.at(time, therapy)}; lifelines {truth[place]:.1%}")
