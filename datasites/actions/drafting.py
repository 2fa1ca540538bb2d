"""A schema drafted from a table's header, for the owner to finish: what `datasite schema` prints, for the console."""

from __future__ import annotations

from pathlib import Path

from datasites.actions.registry import action
from datasites.datasite import Datasite
from datasites.people.roles import OWNER, Actor


@action(OWNER)
def draft_schema(datasite: Datasite, actor: Actor, *, table: str, title: str) -> str:
    """TOML text of a draft: column names and guessed kinds; no bound and no category is taken from the values."""
    from datasites.vault.encoding import draft_schema as draft

    return draft(Path(table), title=title)
