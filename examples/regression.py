"""How blood pressure, body mass and sex go with the progression of diabetes, beside least squares without privacy.

    NETWORK=network.toml python examples/regression.py

`examples/public_tables.py` writes the table that a hospital publishes for it. As that table is public, the answer
without privacy may stand beside the hospital's; of a real hospital's patients nobody outside it has that column.
"""

import os

from public_tables import diabetes
from sklearn.linear_model import LinearRegression

import researcher

cohort = researcher.connect(os.environ.get("NETWORK", "network.toml")).dataset("diabetes")

# The formula is R's. Standard errors and p-values hold the noise as well as the sampling: few patients and many terms
# need a larger ε, and where noise hides the answer, the result says so instead of giving numbers.
study = cohort.regression(
    "progression ~ bmi + bp + sex",
    family="gaussian",
    epsilon=2.0,
    name="example-regression",
    purpose="To see what goes with the progression of diabetes.",
)

if __name__ == "__main__":
    study.check()
    study.submit()
    study.wait_for_approval()
    result = study.run()
    print(result)  # coefficients in the columns' units, standard errors, intervals, p-values
    result.plot().savefig("regression.png")  # in a notebook, result.plot() shows itself
    print("Wrote", result.report("regression.html"))

    people, _ = diabetes()
    people["sex=male"] = people["sex"] == "male"
    inputs = people[["bmi", "bp", "sex=male"]]
    truth = LinearRegression().fit(inputs, people["progression"])
    for term, value in zip(["intercept", *inputs], [truth.intercept_, *truth.coef_], strict=True):
        low, high = result[term].interval
        where = "inside" if low < value < high else "outside"
        print(f"{term}: least squares {value:.3g}, {where} our 95 % interval from {low:.3g} to {high:.3g}")
