"""What a plan does, in plain words made from the plan alone."""

from __future__ import annotations

from policies.numbers import counted, written
from policies.privacy.mechanisms import DPSGD, Evaluation, Query
from policies.release.plans import Plan, Published
from policies.schema.questions import scope_sentences

SIZE_TEXT = {"declared": "as declared", "dp-count": "a differentially private count"}


def summary(plan: Plan, published: Published) -> list[str]:
    """What a plan does on a dataset, a sentence each, for an owner who decides on it."""
    mechanism, people = plan.mechanism, f"about {published.patients:,} patients ({SIZE_TEXT[published.size_kind]})"
    if isinstance(mechanism, DPSGD):
        assert plan.graph is not None
        return [
            (
                f"Trains {plan.model}, a model of {plan.graph.parameter_count:,} numbers, on {people}"
                f" for {counted(mechanism.rounds, 'round')} of {counted(mechanism.steps, 'step')}."
            ),
            (
                f"Each step looks at each patient with chance {written(mechanism.sampling_rate)}, one record of theirs,"
                f" and adds noise of {written(mechanism.noise_multiplier or 0)} times the largest part that one patient"
                " can have."
            ),
            "What leaves: the model's numbers after each round.",
        ]
    if isinstance(mechanism, Evaluation):
        return [
            f"Scores {plan.model} on the held-out patients, {counted(mechanism.rounds, 'time')}.",
            f"What leaves: noisy counts of scores per outcome in {mechanism.bins} bins.",
        ]
    asked = ", ".join(_asked(query) for query in mechanism.queries)
    most = counted(mechanism.records_per_patient, "record")
    return [
        f"Answers {counted(len(mechanism.queries), 'statistic')} over {people}: {asked}.",
        *scope_sentences(mechanism, published.schema),
        f"At most {most} of each patient may count; Laplace noise is added to each statistic.",
    ]


def _asked(query: Query) -> str:
    """A statistic in words, as `mean of temperature`."""
    if query.name == "missing":
        return f"how many records have {query.columns[0]}"
    if query.name == "describe":
        return f"distribution of {query.columns[0]}"
    return query.key.replace("/", " of ")
