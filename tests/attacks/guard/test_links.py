"""Links and identifiers of objects that are somebody else's: PySyft resolves them for whoever has an account."""

from __future__ import annotations

from typing import Any

import pytest
from syft.service.action.action_object import ActionObject
from syft.service.action.action_service import ActionService
from syft.service.code.status_service import UserCodeStatusService
from syft.service.code.user_code import UserCode, UserCodeStatusCollection
from syft.service.code.user_code_service import UserCodeService
from syft.service.request.request import Request
from syft.service.request.request_service import RequestService
from syft.service.user.user import User
from syft.service.user.user_service import UserService
from syft.store.linked_obj import LinkedObject
from syft.types.twin_object import TwinObject

from tests.attacks.guard.attacker import OTHER, OWNER, RESEARCHER, Refusal, Site
from tests.factories import statistics_source

KINDS = {"request": RequestService, "code": UserCodeService, "status": UserCodeStatusService}
TYPES = {"request": Request, "code": UserCode, "status": UserCodeStatusCollection}


@pytest.fixture(scope="module")
def asked(ours: Site) -> Any:
    """A request of one researcher, by the identifiers of its parts."""
    request = ours.call(
        RESEARCHER, "code.request_code_execution", code=ours.submission(statistics_source("linked")), reason="why"
    )
    change = request.changes[0]
    return {"request": request.id, "code": change.linked_user_code.object_uid, "status": change.linked_obj.object_uid}


def resolves(ours: Site, who: str, kind: str, asked: Any) -> Any:
    link = LinkedObject.from_uid(asked[kind], TYPES[kind], service_type=KINDS[kind], server_uid=ours.server_id())
    return ours.call(who, "notifications.resolve_object", linked_obj=link)


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("way", ["by a link", "by its identifier"])
def test_parts_of_a_request_are_its_researchers_and_the_owners(ours: Site, asked: Any, kind: str, way: str) -> None:
    def ask(who: str) -> Any:
        if way == "by a link":
            return resolves(ours, who, kind, asked)
        return ours.call(who, "migration._get_object", uid=asked[kind], object_type=TYPES[kind])

    assert ask(RESEARCHER).id == ask(OWNER).id == asked[kind]
    with pytest.raises(Refusal, match="no such object"):
        ask(OTHER)


@pytest.mark.parametrize("who", [OTHER, OWNER])
def test_no_link_leads_to_a_table_or_to_an_account(ours: Site, who: str) -> None:
    """PySyft's twin carries the private side's blob, and a user's record its key and the hash of its password."""
    asset, account = ours.asset().action_id, ours.call(who, "user.get_current_user").id
    for uid, kind, service in (
        (asset, TwinObject, ActionService),
        (asset, ActionObject, ActionService),
        (account, User, UserService),
    ):
        link = LinkedObject.from_uid(uid, kind, service_type=service, server_uid=ours.server_id())
        with pytest.raises(Refusal, match="no such object"):
            ours.call(who, "notifications.resolve_object", linked_obj=link)
        with pytest.raises(Refusal, match="no such object"):
            ours.call(who, "migration._get_object", uid=uid, object_type=kind)


def test_an_identifier_of_another_kind_than_it_says_is_refused(ours: Site, asked: Any) -> None:
    for kind, other in (("code", "request"), ("request", "status"), ("status", "code")):
        with pytest.raises(Refusal, match="no such object"):
            ours.call(OWNER, "migration._get_object", uid=asked[kind], object_type=TYPES[other])


def test_an_owner_reads_no_researchers_objects(ours: Site) -> None:
    """In PySyft's eyes every object is an administrator's; here an upload is who made it's."""
    value = ActionObject.from_obj([1, 2])
    value.syft_action_saved_to_blob_store = False
    ours.call(RESEARCHER, "action.set", action_object=value)
    for path in ("action.get", "action.get_mock", "action.get_pointer"):
        with pytest.raises(Refusal, match="no such object"):
            ours.call(OWNER, path, uid=value.id)
