"""What a stock client shows in a notebook: its welcome, datasets by name, and the objects that its own point at.

PySyft's client asks for these to print itself. Each gives what is the caller's already, and nothing of PySyft's own
texts and examples.

Annotations are real objects here, not strings: PySyft sends the signatures of service methods to its clients.
"""

from typing import Any

from syft.serde.serializable import serializable
from syft.service.code.status_service import UserCodeStatusService
from syft.service.code.user_code import UserCode, UserCodeStatusCollection
from syft.service.code.user_code_service import UserCodeService
from syft.service.context import AuthedServiceContext
from syft.service.dataset.dataset import DatasetPageView
from syft.service.dataset.dataset_service import DatasetService
from syft.service.migration.migration_service import MigrationService
from syft.service.notification.notification_service import NotificationService
from syft.service.notification.notifications import Notification
from syft.service.request.request import Request
from syft.service.request.request_service import RequestService
from syft.service.service import attach_attribute_to_syft_object
from syft.service.settings.settings_service import SettingsService
from syft.service.user.user_roles import ServiceRole
from syft.store.linked_obj import LinkedObject
from syft.types.dicttuple import DictTuple
from syft.types.errors import SyftException
from syft.types.uid import UID
from syft.util.misc_objs import MarkdownDescription

from datasites.datasite import Datasite
from datasites.door.syft.guard import Refused, is_inside
from datasites.door.syft.ledger_views import notifications_of
from policies.text import visible

NOT_YOURS = "You have no such object here."
SETTINGS = "The owner sets this datasite up: in settings.toml of its directory, on the console, or with `datasite`."
WELCOME = {
    ServiceRole.DATA_SCIENTIST: """## {name}

`client.datasets` lists what is published; `client.datasets["NAME"].assets[0].mock` are made-up rows of the same form.
Submit a function with `client.code.request_code_execution(function)` and see `client.requests`. Private rows are read
by approved requests alone, and each costs privacy that the hospital's ledger counts:
`client.api.services.datasite.describe()` says what is left.
""",
    ServiceRole.ADMIN: """## {name}

`client.requests` lists what researchers ask; `request.approve()` and `request.deny("why")` decide, as the console and
`datasite approve` do. Publishing tables, accounts, budgets and settings are the console's and the command `datasite`'s.
""",
}


@serializable(canonical_name="GuardedSettingsService", version=1)
class GuardedSettingsService(SettingsService):
    """The welcome of this datasite in place of PySyft's."""

    datasite: Datasite

    def welcome_show(self, context: AuthedServiceContext, communication_protocol: Any = None) -> MarkdownDescription:
        """What the caller may do here."""
        text = WELCOME.get(context.role)
        if text is None:
            raise Refused("Your account has no role here.")
        return MarkdownDescription(text=text.format(name=visible(self.datasite.settings.name)))

    def get(self, context: AuthedServiceContext, communication_protocol: Any = None) -> Any:
        """Nothing: PySyft's settings rule nothing here."""
        raise Refused(SETTINGS)


@serializable(canonical_name="GuardedDatasetService", version=1)
class GuardedDatasetService(DatasetService):
    """Datasets that a client finds by the name that their owner gave: `client.datasets["flu"]`, the newest version."""

    datasite: Datasite

    def get_all(
        self,
        context: AuthedServiceContext,
        page_size: int | None = 0,
        page_index: int | None = 0,
        communication_protocol: Any = None,
    ) -> DatasetPageView | DictTuple:
        """All datasets, each by its name; older versions by name and version."""
        found = DatasetService.get_all(self, context, page_size, page_index)
        if is_inside() or not isinstance(found, DictTuple):
            return found
        for dataset in found:
            dataset.uploader.name = self.datasite.settings.name
        newest = {dataset.name.rpartition(" ")[0] or dataset.name: dataset.name for dataset in found}
        names = {full: plain for plain, full in newest.items()}
        return DictTuple(list(found), [names.get(dataset.name, dataset.name) for dataset in found])


@serializable(canonical_name="GuardedNotificationService", version=1)
class GuardedNotificationService(NotificationService):
    """News of requests from the ledger, and the links between requests, their code and its status."""

    datasite: Datasite

    def get_all(self, context: AuthedServiceContext, communication_protocol: Any = None) -> list[Notification]:
        """What was decided and written on the caller's requests; for the owner what waits and what was written."""
        return notifications_of(context, self.datasite)

    def get_all_unread(self, context: AuthedServiceContext, communication_protocol: Any = None) -> list[Notification]:
        """The same: who read what is not kept."""
        return notifications_of(context, self.datasite)

    def resolve_object(
        self, context: AuthedServiceContext, linked_obj: LinkedObject, communication_protocol: Any = None
    ) -> Any:
        """What a link of a request or of its code points at: a researcher's own, or all for the owner."""
        return _shown(context, KINDS.get(linked_obj.service_type), linked_obj.object_uid)


@serializable(canonical_name="GuardedMigrationService", version=1)
class GuardedMigrationService(MigrationService):
    """Gives a client the newest state of what it holds."""

    datasite: Datasite

    def _get_object(
        self, context: AuthedServiceContext, uid: UID, object_type: type, communication_protocol: Any = None
    ) -> Any:
        """A request or code of a researcher's own, or all for the owner."""
        return _shown(context, object_type, uid)


KINDS = {RequestService: Request, UserCodeService: UserCode, UserCodeStatusService: UserCodeStatusCollection}


def _shown(context: AuthedServiceContext, kind: type | None, wanted: UID) -> Any:
    """A request, its code or that one's status, where it is the caller's to see; any other looks as if it weren't."""
    services, key = context.server.services, context.server.verify_key
    keepers = {
        Request: services.request,
        UserCode: services.user_code,
        UserCodeStatusCollection: services.user_code_status,
    }
    if kind not in keepers:
        raise Refused(NOT_YOURS)
    try:
        found = keepers[kind].stash.get_by_uid(key, wanted, has_permission=True).unwrap()
    except SyftException:
        raise Refused(NOT_YOURS) from None
    if context.role is not ServiceRole.ADMIN and not _is_own(context, found):
        raise Refused(NOT_YOURS)
    if hasattr(found, "server_uid"):
        found.server_uid = context.server.id
    # A client finds by these the session that an object is of.
    session = {"syft_server_location": context.server.id, "syft_client_verify_key": context.credentials}
    attach_attribute_to_syft_object(found, session)
    return found


def _is_own(context: AuthedServiceContext, found: Any) -> bool:
    if isinstance(found, Request):
        return bool(found.requesting_user_verify_key == context.credentials)
    own = context.server.services.user_code.get_all(context)
    if isinstance(found, UserCode):
        return found.id in [code.id for code in own]
    return found.id in [code.status_link.object_uid for code in own]
