"""A schema drafted from a table's header, for the owner to finish: what `datasite schema` prints, for the console."""

from __future__ import annotations

from pathlib import Path

from datasites.actions.registry import action
from datasites.datasite import Datasite
from datasites.people.roles import OWNER, Actor


@action(OWNER)
def draft_schema(datasite: Datasite, actor: Actor, *, table: str, title: str, names_only: bool = False) -> str:
    """TOML text of a draft: names and kinds of columns; no bound and no category is taken from the values.

    Args:
      title: the file's name as people know it.
      names_only: look at no cell; kinds come from the columns' names.
    """
    from datasites.vault.encoding import draft_schema as draft

    return draft(Path(table), title=title, names_only=names_only)
