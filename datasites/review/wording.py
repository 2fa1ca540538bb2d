"""What a plan does, in plain words made from the plan alone."""

from __future__ import annotations

from datasites.review.part_words import leaving_words, part_words
from datasites.review.secure_wording import secure_sentences
from policies.numbers import counted, written
from policies.privacy.mechanisms import DPSGD, Evaluation, KaplanMeier, Query, Regression, Statistics
from policies.privacy.outcomes import Outcome, outcome_of
from policies.privacy.shared_mechanisms import shared_draws
from policies.privacy.sharing import shared_of
from policies.privacy.subgroups import column_of, cuts_of
from policies.release.plans import Plan, Published
from policies.schema.design import design_of
from policies.schema.filters import condition_sentences
from policies.schema.questions import scope_sentences
from policies.schema.survival_cells import moment, survival_groups, time_grid
from policies.schema.targets import said

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
                f" and adds {_noise_words(mechanism)}noise of {written(mechanism.noise_multiplier or 0)} times the"
                " largest part that one patient can have."
            ),
            *_made_inputs(mechanism, published),
            *_target_words(mechanism, published),
            leaving_words(plan),
            *part_words(plan),
            *_training_sums(mechanism),
        ]
    if isinstance(mechanism, Evaluation):
        return [
            f"Scores {plan.model} on the held-out patients, {counted(mechanism.rounds, 'time')}.",
            *_each_time(mechanism),
            *_made_inputs(mechanism, published),
            *_target_words(mechanism, published),
            f"What leaves: {_LEAVES[mechanism.outcome].format(bins=mechanism.bins)}",
            *_subgroup_words(mechanism),
            *part_words(plan),
            *_sums(mechanism),
        ]
    if isinstance(mechanism, KaplanMeier):
        return [
            *survival_summary(mechanism, published, people),
            *condition_sentences(mechanism.where, published.schema),
            *_sums(mechanism),
        ]
    if isinstance(mechanism, Regression):
        return [
            *regression_summary(mechanism, published, people),
            *condition_sentences(mechanism.where, published.schema),
            *(secure_sentences(mechanism.secure_aggregation, counts=True) if mechanism.secure_aggregation else ()),
        ]
    asked = ", ".join(_asked(query) for query in mechanism.queries)
    most = counted(mechanism.records_per_patient, "record")
    return [
        f"Answers {counted(len(mechanism.queries), 'statistic')} over {people}: {asked}.",
        *scope_sentences(mechanism, published.schema),
        f"At most {most} of each patient may count; Laplace noise is added to each statistic{_together(mechanism)}.",
        *_sums(mechanism),
    ]


def _sums(mechanism: Statistics | Evaluation | KaplanMeier) -> list[str]:
    """Who adds up, where a table leaves in a sum alone."""
    declared = mechanism.secure_aggregation
    return [] if declared is None else secure_sentences(declared, counts=True, shared=shared_draws(mechanism))


def _training_sums(mechanism: DPSGD) -> list[str]:
    """The same of training."""
    declared = mechanism.secure_aggregation
    return [] if declared is None else secure_sentences(declared, shared=shared_of(mechanism))


def _noise_words(mechanism: DPSGD) -> str:
    return "" if mechanism.step_grid is None else "this hospital's part of a "


def _together(mechanism: Statistics) -> str:
    return "" if shared_draws(mechanism) is None else ", in parts by all hospitals together"


def _made_inputs(mechanism: DPSGD | Evaluation, published: Published) -> list[str]:
    """What the model's inputs are made of, where they are a tensor, or some are transformations of columns."""
    schema, inputs = published.schema, mechanism.inputs
    if (tensor := schema.tensor_of(inputs)) is not None:
        return [f"The model gets the tensor {tensor.name!r} of each record, and no column: {tensor.said()}."]
    if not schema.has_terms(inputs):
        return []
    numbers = counted(len(schema.input_names(inputs)), "number")
    return [f"The model gets {numbers} in [-1, 1] of each record: {schema.input_words(inputs)}."]


_LEAVES = {
    Outcome.CLASS: "noisy counts of scores per outcome in {bins} bins.",
    Outcome.NUMBER: "noisy counts of patients by predicted and true value, in {bins} bins each.",
    Outcome.COUNT: "noisy counts of patients by predicted and true count, in {bins} bins each.",
    Outcome.TIME: (
        "noisy counts of patients by when the event came or they were last seen and by predicted risk, in {bins} bins;"
        " and noisy sums of squared errors of the predicted survival."
    ),
    Outcome.LABELS: "noisy counts of scores per label and outcome in {bins} bins.",
}


def _target_words(mechanism: DPSGD | Evaluation, published: Published) -> list[str]:
    """What the model predicts, where it is not simply the classes of the schema's own target."""
    schema = published.schema.predicting(mechanism)
    words = []
    if mechanism.target is not None or outcome_of(mechanism.loss) is not Outcome.CLASS:
        words.append(f"The model predicts {said(schema.target, schema.column)}, with the loss {mechanism.loss}.")
    if isinstance(mechanism, DPSGD) and mechanism.class_weights:
        weights = ", ".join(
            f"{label} × {written(weight)}"
            for label, weight in zip(schema.classes, mechanism.class_weights, strict=False)
        )
        words.append(f"Errors weigh by class: {weights}.")
    return words


def _each_time(mechanism: Evaluation) -> list[str]:
    """When several scores are charged, as those of a learning curve."""
    if mechanism.rounds == 1:
        return []
    return [
        (
            f"Each time is charged as it is asked, a pure ε = {written(mechanism.epsilon)} to the held-out patients;"
            " what is never asked goes back."
        )
    ]


def _subgroup_words(mechanism: Evaluation) -> list[str]:
    """Which groups are answered apart, and what of ε each table has."""
    if not mechanism.subgroups:
        return []
    named = ", ".join(
        column_of(subgroup) + (f" in {counted(len(cuts_of(subgroup)) + 1, 'band')}" if cuts_of(subgroup) else "")
        for subgroup in mechanism.subgroups
    )
    tables = 1 + len(mechanism.subgroups)
    return [
        (
            f"The same by group of {named}. All patients and each of these columns have ε ="
            f" {written(mechanism.epsilon / tables)} of {written(mechanism.epsilon)}."
        )
    ]


def survival_summary(mechanism: KaplanMeier, published: Published, people: str) -> list[str]:
    """What a table of patients by time and event tells."""
    schema = published.schema
    grid, groups, column = (
        time_grid(mechanism, schema),
        survival_groups(mechanism, schema),
        schema.column(mechanism.time),
    )
    apart = f", for each of {len(groups)} groups by {mechanism.by}" if mechanism.by else ""
    return [
        (
            f"Counts {people} by {mechanism.time} and whether {mechanism.event} was seen{apart}, to draw the share"
            " without the event over time (a Kaplan-Meier curve)."
        ),
        (
            f"What leaves: noisy counts in {counted(len(grid.ends), 'interval')} of time up to"
            f" {moment(column, grid.until)}. One record of each patient counts, in one cell."
        ),
    ]


REGRESSIONS = {
    "gaussian": "the mean of {outcome} (a linear regression)",
    "binomial": "how likely {outcome} is (a logistic regression)",
    "poisson": "how often {outcome} comes (a Poisson regression)",
}


def regression_summary(mechanism: Regression, published: Published, people: str) -> list[str]:
    """What a regression tells."""
    design = design_of(mechanism, published.schema)
    asked = REGRESSIONS[mechanism.family].format(outcome=mechanism.outcome)
    form = "made of" if mechanism.secure_aggregation else "as"
    return [
        f"Fits {asked} to {len(design.terms)} terms over {people}: {'; '.join(term.words for term in design.terms)}.",
        (
            f"What leaves: {counted(len(design.names), 'coefficient')} and how sure they are, {form} noisy sums over"
            f" patients. One record of each patient counts; noise is {written(mechanism.noise_multiplier or 0)} times"
            " the largest part that one patient can have in all of it."
        ),
    ]


def _asked(query: Query) -> str:
    """A statistic in words, as `mean of temperature`."""
    if query.name == "missing":
        return f"how many records have {query.columns[0]}"
    if query.name == "describe":
        return f"distribution of {query.columns[0]}"
    return query.key.replace("/", " of ")
