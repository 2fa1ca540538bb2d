"""Words of the console: what statuses, rules and kinds of work are called in front of people."""

from __future__ import annotations

from policies.errors import DatasiteError
from policies.source.statuses import RequestStatus, RunStatus

# Of each status: what it is called, and its tone (wait, good, bad, quiet).
STATUS: dict[str, tuple[str, str]] = {
    RequestStatus.SUBMITTED: ("Being checked", "quiet"),
    RequestStatus.CHECKED: ("Waits for decision", "wait"),
    RequestStatus.APPROVED: ("Approved", "good"),
    RequestStatus.COMPLETED: ("Completed", "good"),
    RequestStatus.EXPIRED: ("Expired", "quiet"),
    RequestStatus.WITHDRAWN: ("Withdrawn", "quiet"),
    RequestStatus.REVOKED: ("Revoked", "bad"),
    RequestStatus.DENIED: ("Denied", "bad"),
    RequestStatus.CHANGES_REQUESTED: ("Changes asked", "quiet"),
}
RUN_STATUS: dict[str, tuple[str, str]] = {
    RunStatus.RESERVED: ("Waits to run", "quiet"),
    RunStatus.RUNNING: ("Running", "wait"),
    RunStatus.RELEASED: ("Released", "good"),
    RunStatus.FAILED: ("Failed", "bad"),
    RunStatus.VOID: ("Not run", "quiet"),
}
KINDS = {
    "dp_sgd": "Training",
    "statistics": "Statistics",
    "evaluation": "Evaluation",
    "kaplan_meier": "Survival",
    "regression": "Regression",
}
ROLES = {"owner": "Data owner", "second_reviewer": "Second reviewer", "auditor": "Auditor"}
SIZES = {"declared": "as declared by the owner", "dp-count": "as a differentially private count"}

PATIENTS = {"training": "patients who train", "held_out": "patients held out"}
"""Whose account of a population's budget it is."""

ENTRY_KINDS = {
    "population": "Population created",
    "budget": "Budget raised",
    "limit": "Researcher's limit set",
    "part": "Reserved for a project, or freed",
    "split": "Accounts of those who train and of those held out made",
    "publication": "Dataset published",
    "retirement": "Dataset retired",
    "submit": "Request submitted",
    "status": "Status changed",
    "reserve": "Approved, cost reserved",
    "return": "Reservation given back",
    "admit": "Round admitted",
    "start": "Round started",
    "settle": "Released, cost spent",
    "fail": "Round failed, cost spent",
    "void": "Round not run",
    "restore": "Put back from a copy, closed",
    "lost": "Spent after the copy, charged",
    "accept": "Copy accepted, open again",
}

DENIALS = (
    ("purpose", "The purpose is not described well enough for us to weigh it."),
    ("agreement", "This work is not covered by our research agreement."),
    ("cost", "The privacy cost is too high for this purpose. Ask with a smaller ε or fewer rounds."),
    ("statistics", "Simple statistics would answer this at a lower privacy cost."),
    ("duplicate", "A request like this one was approved before. Use its releases."),
)

# Of each rule of the policy: its name in plain words and what it means, in the order of the form.
RULES: tuple[tuple[str, str, tuple[tuple[str, str, str], ...]], ...] = (
    (
        "What a request may cost",
        "These bounds refuse a request before anybody can approve it.",
        (
            ("max_epsilon", "Largest ε of one request", "All of its rounds together."),
            ("max_delta", "Largest δ of one request", "The chance that the promise fails; as 0.00001."),
            ("delta_per_patient", "Largest δ times patients", "At 1, δ is at most one over the number of patients."),
            ("researcher_epsilon", "Largest ε of one researcher", "Together, per population. Empty: no such limit."),
            (
                "shared_noise_epsilon",
                "Largest ε that trust may leave uncharged",
                "Of shared noise. At 0 it is all charged.",
            ),
        ),
    ),
    (
        "Who decides",
        "A small request takes one decision; a large one can take a typed name and a second person.",
        (
            ("typed_confirmation_epsilon", "Type the name above ε", "Whoever approves types the request's name."),
            ("second_reviewer_epsilon", "Two people above ε", "Owner and second reviewer. Empty: never."),
            ("approve_at_once_epsilon", "Approve at once up to ε", "Where every check passes. Empty: people decide."),
            ("approval_days", "An approval lasts, in days", "What was not run by then is given back."),
        ),
    ),
    (
        "What may run",
        "Bounds on the size of the work and of the groups of patients.",
        (
            ("min_patients", "Smallest dataset, in patients", "As published."),
            ("min_batch", "Fewest patients in a step", "Expected on average, in training."),
            ("min_noise_multiplier", "Least noise in training", "As a multiple of one patient's largest share."),
            ("max_rounds", "Most releases of a request", ""),
            ("max_steps", "Most training steps", "All rounds together."),
            ("max_parameters", "Largest model, in numbers", ""),
        ),
    ),
)


def budget_of(whose: str, name: str) -> str:
    """Which budget one is that a request draws on, within a sentence."""
    return {
        "population": "the population's budget",
        "year": f"what {name} may add",
        "project": f"what is reserved for {name}",
    }.get(whose, "this researcher's budget")


def budget_title(whose: str, name: str) -> str:
    """The same as a heading."""
    return {
        "population": f"Population {name}",
        "year": f"Added in {name}",
        "project": f"Reserved for {name}, drawn",
    }.get(whose, "This researcher")


def status(name: str) -> tuple[str, str]:
    """What a request's status is called, and its tone."""
    return STATUS[name]


def run_status(name: str) -> tuple[str, str]:
    """What a run's status is called, and its tone."""
    return RUN_STATUS[name]


def kind_text(kind: str | None) -> str:
    """What a mechanism is called."""
    return KINDS.get(kind or "", "—")


def browser(agent: str) -> str:
    """A browser as people know it, from what it says of itself."""
    names = (("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
    systems = (
        ("Windows", "Windows"),
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("Mac OS", "macOS"),
        ("Linux", "Linux"),
    )
    name = next((known for mark, known in names if mark in agent), "A program")
    system = next((known for mark, known in systems if mark in agent), "")
    return f"{name} on {system}" if system else name


def public(error: DatasiteError) -> str:
    """An error's sentence for the page, without the table of faults that may follow it."""
    return str(error).split("\n", 1)[0]
