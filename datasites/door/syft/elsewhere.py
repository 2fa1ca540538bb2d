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
    "The owner changes their own password with `datasite password`, on the machine itself, and gives a researcher a new"
    " one with `datasite password EMAIL`, or on the console."
)
_RUNS = (
    "A round cannot be started anew or ended from here: ask for it again with client.code.NAME(...), or let the owner"
    " end it with `datasite stop-run`."
)
_NOTICES = "Who read what is not kept here: notifications are read from the ledger, newest first, at each look."
_WORKERS = "The datasite runs its own confined jobs; `datasite isolation` and `datasite runs` show them to the owner."

ELSEWHERE = {
    "user.create": _ACCOUNTS,
    "user.get_all": "The owner sees accounts with `datasite researchers list`, or on the console.",
    "user.delete": "The owner closes an account with `datasite researchers disable EMAIL`, or on the console.",
    "dataset.add": _PUBLISHING,
    "dataset.delete": "The owner takes a dataset back with `datasite retire NAME`; its population keeps every charge.",
    "project.create_project": _PROJECTS,
    "settings.update": _SETTINGS,
    "settings.allow_guest_signup": _ACCOUNTS,
    "settings.welcome_customize": _SETTINGS,
    "job.restart": _RUNS,
    "job.kill": _RUNS,
    "notifications.get_all_read": _NOTICES,
    "notifications.mark_as_read": _NOTICES,
    "notifications.mark_as_unread": _NOTICES,
    "notifications.clear": _NOTICES,
    "worker_pool.get_all": _WORKERS,
    "worker_pool.launch": _WORKERS,
}
OWNERS_OWN = {
    "action.set": _PUBLISHING,  # a client that uploads a table begins with these two
    "blob_storage.allocate": _PUBLISHING,
    "user.update": _PASSWORDS,
    "worker.get_all": _WORKERS,
}


def elsewhere(role: ServiceRole) -> dict[str, str]:
    """By path, who does it and how, for a client of this role."""
    return ELSEWHERE | OWNERS_OWN if role is ServiceRole.ADMIN else ELSEWHERE
