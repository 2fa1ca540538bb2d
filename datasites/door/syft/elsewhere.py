"""What a stock client's methods ask for that nobody may call here: who does it instead, and how, in one sentence.

Clients are told of these paths, so that their methods exist and end with that sentence instead of a missing name. Calls
of them are refused by their path, before anything of them is rebuilt.
"""

from syft.service.user.user_roles import ServiceRole

_ACCOUNTS = "The hospital makes accounts: with `datasite researchers add EMAIL`, or an invitation from its console."
_PUBLISHING = "The owner publishes tables, on the console or with `datasite publish TABLE --schema schema.toml`."
_PROJECTS = (
    "The hospital makes projects, with `datasite projects`; a researcher files requests under one by its name,"
    " as study.submit(project=...)."
)
_SETTINGS = "The owner sets this datasite up: in settings.toml of its directory, on the console, or with `datasite`."
_PASSWORDS = (
    "The hospital gives a new password, with `datasite password EMAIL` or on its console: whoever holds a key of a"
    " client could otherwise keep the account."
)
_ROUNDS = (
    "Rounds are no jobs of PySyft: client.code.NAME(...) says `running` until its round shows, and"
    " client.api.services.datasite.request_status(code=...) where a request stands."
)
_NOTICES = "What is written on a request is read with client.api.services.datasite.comments(code=...)."
_WORKERS = "The datasite runs its own confined jobs; `datasite isolation` and `datasite runs` show them to the owner."

ELSEWHERE = {
    "user.create": _ACCOUNTS,
    "user.get_all": "The owner sees accounts with `datasite researchers list`, or on the console.",
    "user.update": _PASSWORDS,
    "user.delete": "The owner closes an account with `datasite researchers disable EMAIL`, or on the console.",
    "dataset.add": _PUBLISHING,
    "dataset.delete": "The owner takes a dataset back with `datasite retire NAME`; its population keeps every charge.",
    "project.create_project": _PROJECTS,
    "project.get_all": _PROJECTS,
    "settings.update": _SETTINGS,
    "settings.allow_guest_signup": _ACCOUNTS,
    "settings.welcome_customize": _SETTINGS,
    "job.get_all": _ROUNDS,
    "notifications.get_all": _NOTICES,
    "notifications.get_all_unread": _NOTICES,
    "worker.get_all": _WORKERS,
    "worker_pool.get_all": _WORKERS,
    "worker_pool.launch": _WORKERS,
}
OWNERS_OWN = {"action.set": _PUBLISHING, "blob_storage.allocate": _PUBLISHING}
"""An owner's client begins with these when it uploads a table."""


def elsewhere(role: ServiceRole) -> dict[str, str]:
    """By path, who does it and how, for a client of this role."""
    return ELSEWHERE | OWNERS_OWN if role is ServiceRole.ADMIN else ELSEWHERE
