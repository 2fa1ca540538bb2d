"""Actions by name: each says which roles may run it, and `act` runs one in somebody's name.

An action is a function under `@action(roles)` in a module of this package; that is all that a new one needs. It takes
the datasite, who acts, and plain arguments, and answers plain data. What changes something is in the audit log.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import datasites.actions
from datasites.datasite import Datasite
from datasites.people.roles import Actor, Role
from policies.errors import InvalidRequest, PermissionRefused

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Action:
    """One thing that people can do.

    Args:
      roles: who may; whether a decision is theirs to take is judged in `datasites.review.decisions`.
    """

    name: str
    function: Callable[..., Any]
    roles: frozenset[Role]


_REGISTERED: dict[str, Action] = {}


def action(roles: frozenset[Role]) -> Callable[[Function], Function]:
    """Make a function an action under its own name, for these roles."""

    def register(function: Function) -> Function:
        name = function.__name__
        if name in _REGISTERED and _REGISTERED[name].function.__module__ != function.__module__:
            raise ValueError(f"There are two actions {name!r}.")
        _REGISTERED[name] = Action(name, function, roles)
        return function

    return register


@functools.cache
def actions() -> Mapping[str, Action]:
    """Every action by name."""
    for module in pkgutil.iter_modules(datasites.actions.__path__):
        importlib.import_module(f"datasites.actions.{module.name}")
    return _REGISTERED


def act(datasite: Datasite, name: str, actor: Actor, arguments: Mapping[str, Any]) -> Any:
    """Run an action by name.

    Raises:
      InvalidRequest: there is none of that name.
      PermissionRefused: it is not for the actor's role.
    """
    found = actions().get(name)
    if found is None:
        raise InvalidRequest(f"There is no action {name!r}.")
    if actor.role not in found.roles:
        who = " or ".join(sorted(role.replace("_", " ") for role in found.roles))
        raise PermissionRefused(f"{actor.role.replace('_', ' ')} may not do this ({name}); the {who} can.")
    for argument, value in arguments.items():
        _check_text(argument, value)
    return found.function(datasite, actor, **arguments)


def _check_text(argument: str, value: object) -> None:
    """Raise `InvalidRequest` where a text, or one in a list, is no text in UTF-8: a terminal passes on any bytes."""
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str) and not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise InvalidRequest(f"{argument}={text[:100]!r} is not text in UTF-8. Type it anew.") from None
