"""Who calls, in our words, and our errors in theirs."""

from collections.abc import Iterator
from contextlib import contextmanager

from syft.service.context import AuthedServiceContext
from syft.service.user.user_roles import ServiceRole

from datasites.door.syft.guard import Refused
from datasites.people.roles import Actor, Role
from policies.errors import DatasiteError

ROLES = {ServiceRole.ADMIN: Role.OWNER, ServiceRole.DATA_SCIENTIST: Role.RESEARCHER}


@contextmanager
def public_errors() -> Iterator[None]:
    """A `DatasiteError` reaches the client as its public message."""
    try:
        yield
    except DatasiteError as error:
        raise Refused(error.public_message) from None


def email_of(context: AuthedServiceContext) -> str:
    """The e-mail of the account that calls."""
    server = context.server
    return str(server.services.user.stash.get_by_verify_key(server.verify_key, context.credentials).unwrap().email)


def actor_of(context: AuthedServiceContext) -> Actor:
    """Who calls. Refuses PySyft's other roles."""
    role = ROLES.get(context.role)
    if role is None:
        raise Refused("Your account has no role here.")
    return Actor(email_of(context), role)
