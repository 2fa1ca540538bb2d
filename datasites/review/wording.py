"""What a plan does, in plain words made from the plan alone."""

from __future__ import annotations

from policies.numbers import counted, written
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
                f" for {counted(mechanism.rounds, 'round')} of {counted(mechanism.steps, 'step')}."
            ),
            (
                f"Each step looks at each patient with chance {written(mechanism.sampling_rate)}, one record of theirs,"
                f" and adds noise of {written(mechanism.noise_multiplier or 0)} times the largest part that one patient"
                " can have."
            ),
            *_made_inputs(mechanism, published),
            "What leaves: the model's numbers after each round.",
        ]
    if isinstance(mechanism, Evaluation):
        return [
            f"Scores {plan.model} on the held-out patients, {counted(mechanism.rounds, 'time')}.",
            *_made_inputs(mechanism, published),
            f"What leaves: noisy counts of scores per outcome in {mechanism.bins} bins.",
        ]
    asked = ", ".join(query.key.replace("/", " of ") for query in mechanism.queries)
    most = counted(mechanism.records_per_patient, "record")
    return [
        f"Answers {counted(len(mechanism.queries), 'statistic')} over {people}: {asked}.",
        f"At most {most} of each patient may count; Laplace noise is added to each statistic.",
    ]


def _made_inputs(mechanism: DPSGD | Evaluation, published: Published) -> list[str]:
    """What the model's inputs are made of, where some are transformations of columns."""
    schema, inputs = published.schema, mechanism.inputs
    if not schema.has_terms(inputs):
        return []
    numbers = counted(len(schema.input_names(inputs)), "number")
    return [f"The model gets {numbers} in [-1, 1] of each record: {schema.input_words(inputs)}."]
