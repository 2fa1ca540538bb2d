"""What a plan does, in plain words made from the plan alone."""

from __future__ import annotations

from policies.privacy.mechanisms import DPSGD, Evaluation
from policies.release.plans import Plan, Published

SIZE_TEXT = {"declared": "as declared", "dp-count": "a differentially private count"}


def summary(plan: Plan, published: Published) -> list[str]:
    """What a plan does on a dataset, a sentence each, for an owner who decides on it."""
    mechanism, people = plan.mechanism, f"about {published.patients:,} patients ({SIZE_TEXT[published.size_kind]})"
    if isinstance(mechanism, DPSGD):
        assert plan.graph is not None
        return [
            (
                f"Trains {plan.model}, a model of {plan.graph.parameter_count:,} numbers, on {people}"
                f" for {_counted(mechanism.rounds, 'round')} of {_counted(mechanism.steps, 'step')}."
            ),
            (
                f"Each step looks at each patient with chance {mechanism.sampling_rate:g}, one record of theirs, and"
                f" adds noise of {mechanism.noise_multiplier:g} times the largest part that one patient can have."
            ),
            "What leaves: the model's numbers after each round.",
        ]
    if isinstance(mechanism, Evaluation):
        return [
            f"Scores {plan.model} on the held-out patients, {_counted(mechanism.rounds, 'time')}.",
            f"What leaves: noisy counts of scores per outcome in {mechanism.bins} bins.",
        ]
    asked = ", ".join(query.key.replace("/", " of ") for query in mechanism.queries)
    most = _counted(mechanism.records_per_patient, "record")
    return [
        f"Answers {_counted(len(mechanism.queries), 'statistic')} over {people}: {asked}.",
        f"At most {most} of each patient may count; Laplace noise is added to each statistic.",
    ]


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
