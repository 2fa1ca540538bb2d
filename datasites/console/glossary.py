"""What the console's terms mean, in plain words: the help beside each of them and the page of all of them.

The words are those of docs/glossary.md, at more length where a figure is read off a page.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Term:
    """A term of the console.

    Args:
      anchor: of its place on the glossary's page.
      name: as pages write it.
      row: the term of docs/glossary.md that it is.
      text: what it means; an empty line parts paragraphs.
    """

    anchor: str
    name: str
    row: str
    text: str


TERMS: tuple[Term, ...] = (
    Term(
        "epsilon",
        "ε (epsilon)",
        "ε (epsilon)",
        "How much a release may tell of one patient. The smaller it is, the less anybody can learn about a patient "
        "from what leaves, whatever else they know and however much they compute.\n\n"
        "ε is read as a bound on certainty: somebody who was 50 % sure that a patient is in the data is at most "
        "52.5 % sure after ε 0.1, 73.2 % after ε 1, 88.1 % after ε 2 and 99.8 % after ε 6. All rounded up.",
    ),
    Term(
        "delta",
        "δ (delta)",
        "δ (delta)",
        "The chance with which what is promised of somebody's certainty may fail. At δ = 0.00001 that is at most one "
        "in 100,000. It should be well below one over the number of patients; your policy can demand it. Where there "
        "is a δ, the certainties that are shown are a little above those of ε alone, since ε itself is exceeded more "
        "often than that: 91.4 % and not 88.1 % for a budget of ε 2.\n\n"
        "Statistics and evaluations have no δ of their own. Training has one, and so has the budget as a whole.",
    ),
    Term(
        "nearly",
        "nearly 100 %",
        "nearly 100 %",
        "The bound on somebody's certainty rounds up to 100 %: at this ε the figures promise nothing more on that "
        "question. It does not say that anybody will become certain, only that the bound no longer rules it out.\n\n"
        "“Which of two records a known patient has” reaches it sooner than “whether a patient is in the data”: to "
        "swap a record is to remove one and to add another, so ε counts twice.",
    ),
    Term(
        "budget",
        "Budget: spent, reserved, left",
        "budget, spent, reserved, remaining",
        "The (ε, δ) that one patient of a population may lose, over all releases that are ever made. Spent is what "
        "left; what is spent never comes back. Spent is rounded up and what is left is rounded down.",
    ),
    Term(
        "reserved",
        "Reserved",
        "budget, spent, reserved, remaining",
        "Set aside for approved requests whose rounds have not run yet, so that no two approvals count on the same "
        "ε. It becomes spent when a round begins to read, and goes back when an approval ends unused.",
    ),
    Term(
        "part",
        "Reserved for a project",
        "reserved for a project",
        "A part of a population's budget that no other request is approved out of. A request draws on it first where "
        "it is filed under the project, and its researcher is one of those whom you named for it. It permits nothing "
        "by itself: each request is decided as any other. It ends with the project.\n\n"
        "A part that is reserved for training, too, keeps what turning δ into ε costs: all others are then counted "
        "as if a model were trained already.",
    ),
    Term(
        "year",
        "Added in a year",
        "yearly plan",
        "What all that is spent and reserved now comes to, less what was spent when the calendar year opened (UTC). "
        "Your policy may say how much one year may add to a population; the budget stays the promise for ever. What "
        "was approved last year and has yet to run counts in this one.",
    ),
    Term(
        "with_training",
        "Left once a model is trained",
        "budget, spent, reserved, remaining",
        "Statistics and evaluations have no δ, and as long as nothing else is released their ε add up. Training has "
        "one: from the first training on, releases add up as divergences, and turning these into ε at the budget's δ "
        "costs an ε once. So less is left for a training than for one more statistic.",
    ),
    Term(
        "accounts",
        "Two accounts in one budget",
        "account",
        "A keyed hash of the identifier says of each patient whether they train or are held out for evaluation. Nobody "
        "is in both groups, and nobody changes: all tables of a population hold the same share out. So a training "
        "costs the patients who train and nobody else, an evaluation those who are held out, and statistics all. Each "
        "group has the whole budget, and each patient's loss stays within it.",
    ),
    Term(
        "population",
        "Population",
        "population",
        "The patients behind one space of identifiers, who share one budget. Every table, version and split about "
        "them draws on it: publishing a table twice gives no second budget.",
    ),
    Term(
        "patients",
        "Number of patients",
        "published size",
        "A dataset's public size. It is never the exact count: either a differentially private count, which is "
        "charged, or a figure that the owner declares, rounded to two digits.",
    ),
    Term(
        "divergence",
        "Divergence",
        "Rényi divergence, order",
        "Rényi divergence, the measure in which the ledger adds up. Divergences of releases are simply added, and "
        "their sum is turned into ε at the budget's δ. That is tighter than adding the ε of each release, which is "
        "why ε of all releases is less than the sum of their ε.",
    ),
    Term(
        "order",
        "Order",
        "Rényi divergence, order",
        "The order (α) at which divergence is measured. It is chosen with a population's δ when the population is "
        "created, and is fixed from then on: only divergences of one order may be added.",
    ),
    Term(
        "noise_multiplier",
        "Noise multiplier",
        "noise multiplier",
        "In training: the standard deviation of the noise added in each step, divided by the clipping norm. It has "
        "no unit. At 1, the noise is as large as the most that one patient can add to a step; more noise costs less "
        "ε.",
    ),
    Term(
        "clipping_norm",
        "Clipping norm",
        "clipping norm",
        "In training: the largest length of one record's gradient. What is longer is shortened to it, so that no "
        "patient can move a step by more than the noise is made for.",
    ),
    Term(
        "tighter",
        "Tighter bound",
        "tighter bound",
        "ε of this request alone as another, more exact calculation has it (privacy loss distributions). The ledger "
        "charges the larger figure, because its divergences can be added over years.",
    ),
    Term(
        "plan_digest",
        "Plan digest",
        "plan",
        "A fingerprint (SHA-256) of the plan: everything that a request will run, from the model's graph to the "
        "noise. You approve this plan and no other; if one character of it changed, so would the digest.",
    ),
    Term(
        "release",
        "Release",
        "release",
        "What leaves the datasite after approval: numbers with noise already in them. Nothing can be called back "
        "once it has left; its charge is what it may have told.",
    ),
    Term(
        "interval",
        "95 % interval",
        "noise interval",
        "Where the answer without noise lies, 95 times out of 100. It is computed from public figures alone: the "
        "bounds, ε and the number of patients. It says nothing about chance in who became a patient.",
    ),
    Term(
        "norm",
        "Norm",
        "norm",
        "The length of a tensor as a vector: the square root of the sum of its squared values. It has no unit.",
    ),
    Term(
        "certificate",
        "Certificate",
        "certificate",
        "The signed statement that goes with a release: what ran, what it cost, and where the ledger stood. Anybody "
        "who has it can check it without this datasite.",
    ),
    Term(
        "head",
        "Head",
        "head",
        "The number and fingerprint of the last entry of a chained record. Who wrote it down can later tell that "
        "nothing before it was changed or taken out.",
    ),
    Term(
        "schema",
        "Schema",
        "schema",
        "A dataset's public declaration: columns, kinds, units, bounds and categories. The owner states it; nothing "
        "in it is taken from the data.",
    ),
    Term(
        "mock",
        "Mock",
        "asset, private, mock",
        "A public stand-in of the same layout as the private table, drawn from the schema alone or declared public "
        "by the owner. Researchers try their code on it.",
    ),
    Term(
        "holdout",
        "Hold-out",
        "hold-out",
        "Patients kept out of training, for evaluation. They are chosen once, by a secret of the datasite.",
    ),
    Term(
        "shared_noise",
        "Shared noise",
        "shared noise",
        "Noise that several hospitals make together, each adding a part, so that what they add up is sharper at the "
        "same ε. That ε holds while no more of them work together with the researcher than the request says. If more "
        "do, one hospital's numbers may be read under its own part alone, and a larger ε holds.\n\n"
        "The ledger charges the larger one. Whoever approves may accept the smaller one instead, in words, for one "
        "request, where the policy allows it.",
    ),
    Term(
        "unit",
        "Unit of privacy",
        "unit of privacy, neighbouring",
        "Whose data the promise is about: one patient with all of their records, present or absent. A patient known "
        "at several hospitals bears the sum of what each of them releases.",
    ),
)
_BY_ANCHOR = {term.anchor: term for term in TERMS}


def term(anchor: str) -> Term:
    """A term by its anchor; a template that names none of these fails at once."""
    return _BY_ANCHOR[anchor]
