"""The host: signing key, backup, a restored copy, health, and what holds jobs."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from datasites.actions.registry import action
from datasites.datasite import Datasite
from datasites.directory import identity_key, new_signing_key
from datasites.files import replace_private, write_private
from datasites.operations import restore
from datasites.operations.backup import write_backup
from datasites.operations.dial_out_state import read_states
from datasites.people.roles import CONSOLE, OWNER, Actor
from datasites.review.secure_rounds import declared_in
from policies.errors import InvalidRequest
from policies.privacy.secure_aggregation import digits_of
from policies.wire.key_words import fingerprint, words_of


@action(OWNER)
def rotate_key(datasite: Datasite, actor: Actor) -> dict[str, str]:
    """Sign certificates with a new key; the old one is kept beside it, marked with the time."""
    old = datasite.public_key()
    path = datasite.settings.directory / "certificate.pem"
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    write_private(path.with_name(f"certificate.{stamp}.pem"), path.read_text(encoding="utf-8"))
    replace_private(path, new_signing_key())
    datasite.audit_log.record(actor.name, "rotate key", datasite.public_key(), before=old)
    return {"public_key": datasite.public_key(), "old_public_key": old}


@action(CONSOLE)
def key(datasite: Datasite, actor: Actor, *, request: str = "") -> dict[str, Any]:
    """The key that certificates and rounds of secure sums are signed with, in words; with a request, its roster's.

    Raises:
      InvalidRequest: the request names no roster.
    """
    own = datasite.public_key()
    hospitals = {datasite.settings.name: own}
    if request:
        record = datasite.submissions.find(request)
        declared = declared_in(record.plan.mechanism) if record.plan is not None else None
        if declared is None:
            raise InvalidRequest(
                f"Request {record.id[:8]} names no other hospitals: what it releases is in no sum. `datasite key` alone"
                " shows this datasite's own key."
            )
        hospitals = {party.name: party.key for party in declared.hospitals}
    return {
        "public_key": own,
        "hospitals": [
            {
                "name": name,
                "words": words_of(fingerprint(bytes.fromhex(public))),
                "digits": digits_of(public),
                "public_key": public,
                "own": public == own,
            }
            for name, public in hospitals.items()
        ],
    }


@action(OWNER)
def backup(datasite: Datasite, actor: Actor, *, file: str) -> dict[str, Any]:
    """Copy everything into a new file."""
    with datasite.holding_tables:
        done = write_backup(datasite.settings, datasite.ledger, Path(file))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    replace_private(datasite.settings.directory / "last_backup", f"{now}\n")
    datasite.audit_log.record(actor.name, "backup", done["file"], entries=done["entries"])
    return done


@action(OWNER)
def accept_restored(
    datasite: Datasite, actor: Actor, *, certificate: str | None, older: bool, spent: dict[str, float]
) -> dict[str, Any]:
    """Let a restored datasite admit work again."""
    done = restore.accept_restored(
        datasite.settings, datasite.ledger, actor.name, certificate=certificate, older=older, spent=spent, serving=True
    )
    datasite.audit_log.record(actor.name, "accept restored", done["how"], charged=done["charged"], ended=done["ended"])
    return done


@action(OWNER)
def status(datasite: Datasite, actor: Actor) -> dict[str, Any]:
    """Whether it serves and admits work, the words of its key, how its dial-outs stand, and machines of its jobs."""
    directory = datasite.settings.directory
    key = identity_key(directory).public_key().public_bytes_raw()
    return {
        "name": datasite.settings.name,
        "url": datasite.settings.url,
        "serving": datasite.is_serving,
        "stopped": datasite.rounds.stopped.is_set(),
        "restored": datasite.ledger.recovery.is_restored,
        "words": words_of(fingerprint(key)),
        "dial_out": read_states(datasite.settings.dial_out_states),
        "jobs": [machine.look() for machine in datasite.pool.elsewhere.values()],
    }


@action(OWNER)
def health(datasite: Datasite, actor: Actor) -> dict[str, str]:
    """That it serves, and whether it was restored and waits for `accept_restored`."""
    return {"status": "restored, admits nothing yet" if datasite.ledger.recovery.is_restored else "ok"}


@action(OWNER)
def isolation(datasite: Datasite, actor: Actor) -> dict[str, bool]:
    """Which protections hold for a job on this host."""
    return datasite.pool.protections()
