"""Requests that ask for more than they show, code that would run in the server, and decisions by the wrong people."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import syft as sy
import torch
from syft.service.action.action_object import ActionObject
from syft.service.action.action_permissions import ActionPermission
from syft.service.policy.policy import Constant, InputPolicy, Matches, OutputPolicyExecuteCount, SubmitUserPolicy
from syft.service.request.request import ActionStoreChange, SubmitRequest, UserCodeStatusChange
from syft.service.user.user_roles import ServiceRole
from syft.store.linked_obj import LinkedObject
from syft.types.uid import UID

from tests.attacks.guard.attacker import OWNER, RESEARCHER, Refusal, Site, wait_for
from tests.factories import DatasiteProcess

COUNT = """def {name}(records, round):
    from datasites.mechanisms import statistics

    return statistics(records, round, count=True, epsilon=0.1)
"""


def stored_code(site: Site, source: str, **changes: Any) -> Any:
    """Code that is stored, with no request for it."""
    return site.call(RESEARCHER, "code.submit", code=site.submission(source, **changes))


def test_request_that_shows_one_code_does_not_approve_another(stock: Site) -> None:
    """The swap, on a stock server: the owner reads `harmless` and approves `evil`."""
    harmless = stored_code(stock, "def harmless(records):\n    return 1\n")
    evil = stored_code(stock, "def evil(records):\n    return records\n")
    link = LinkedObject.from_obj(harmless, server_uid=stock.server_id())
    change = UserCodeStatusChange(value=_approved(), linked_obj=evil.status_link, linked_user_code=link)
    request = stock.call(RESEARCHER, "request.submit", request=SubmitRequest(changes=[change]))
    stock.call(OWNER, "request.apply", uid=request.id)
    rows = stock.call(RESEARCHER, "code.call", uid=evil.id, records=stock.asset().action_id)
    assert _opened(stock, rows).shape == (413, 7)


def _approved() -> Any:
    from syft.service.code.user_code import UserCodeStatus

    return UserCodeStatus.APPROVED


def _opened(site: Site, value: Any) -> torch.Tensor:
    from syft.serde.deserialize import _deserialize

    if isinstance(value, ActionObject) and value.syft_blob_storage_entry_id is not None:
        blob = site.call(RESEARCHER, "blob_storage.read", uid=value.syft_blob_storage_entry_id).syft_object
        value = _deserialize(blob, from_bytes=True)
    assert isinstance(value, torch.Tensor)
    return value


def test_researcher_makes_no_request_but_by_its_code(ours: Site) -> None:
    change = UserCodeStatusChange(
        value=_approved(),
        linked_obj=LinkedObject.from_uid(UID(), ActionObject, service_type=_service(), server_uid=ours.server_id()),
        linked_user_code=LinkedObject.from_uid(
            UID(), ActionObject, service_type=_service(), server_uid=ours.server_id()
        ),
    )
    for changes in ([change], [change, change]):
        with pytest.raises(Refusal, match="may not"):
            ours.call(RESEARCHER, "request.submit", request=SubmitRequest(changes=changes))


def _service() -> Any:
    from syft.service.action.action_service import ActionService

    return ActionService


def _link(uid: Any, target: Any = None) -> Any:
    resolved = SimpleNamespace(unwrap=lambda: target)
    return SimpleNamespace(object_uid=uid, resolve_with_context=lambda _: resolved)


def _checked(changes: list[Any], role: ServiceRole = ServiceRole.ADMIN) -> Any:
    """`GuardedRequestService`'s look at a request that came into the database somehow."""
    from datasites.door.syft.services import GuardedRequestService

    service = GuardedRequestService.__new__(GuardedRequestService)
    stored = SimpleNamespace(unwrap=lambda: SimpleNamespace(changes=changes))
    service.stash = SimpleNamespace(get_by_uid=lambda *_: stored)
    account = SimpleNamespace(unwrap=lambda: SimpleNamespace(email=OWNER))
    users = SimpleNamespace(stash=SimpleNamespace(get_by_verify_key=lambda *_: account))
    server = SimpleNamespace(verify_key=None, services=SimpleNamespace(user=users))
    return service._only_code(SimpleNamespace(role=role, credentials=None, server=server), UID())


def _change(status: UID, code: Any) -> Any:
    return UserCodeStatusChange.model_construct(linked_obj=_link(status), linked_user_code=_link(code.id, code))


def test_review_finds_swaps_extra_changes_and_nested_code_by_itself() -> None:
    """The second wall: whatever a request in the database says, only one code's own status is decided."""
    from datasites.door.syft.guard import Refused

    status, other = UID(), UID()
    code = SimpleNamespace(id=UID(), status_link=SimpleNamespace(object_uid=status), nested_codes={})
    nesting = SimpleNamespace(id=UID(), status_link=SimpleNamespace(object_uid=status), nested_codes={"f": 1})
    read = ActionStoreChange.model_construct(linked_obj=_link(other))
    assert _checked([_change(status, code)]) == code.id
    for changes in (
        [],
        [_change(other, code)],
        [_change(status, code), read],
        [read],
        [_change(status, code)] * 2,
        [_change(status, nesting)],
    ):
        with pytest.raises(Refused):
            _checked(changes)
    with pytest.raises(Refused, match="Only the owner"):
        _checked([_change(status, code)], role=ServiceRole.DATA_SCIENTIST)


def test_count_of_an_output_policy_holds_nothing_on_a_stock_server(stock: Site) -> None:
    source = "def counted(records):\n    return records.sum()\n"
    policy = {"output_policy_type": OutputPolicyExecuteCount, "output_policy_init_kwargs": {"limit": 1}}
    submission = stock.submission(source, **policy)
    request = stock.call(RESEARCHER, "code.request_code_execution", code=submission)
    stock.call(OWNER, "request.apply", uid=request.id)
    uid = stock.asset().action_id
    assert sum(stock.succeeds(RESEARCHER, "code.call", uid=request.code_id, records=uid) for _ in range(5)) > 1


def test_ledger_counts_releases_whatever_the_policy_says(ours: Site, datasite_process: DatasiteProcess) -> None:
    """A request for one release, under a policy that allows a thousand: five calls give one release at one charge."""
    policy = {"output_policy_type": OutputPolicyExecuteCount, "output_policy_init_kwargs": {"limit": 1000}}
    submission = ours.submission(COUNT.format(name="counted"), **policy)
    request = ours.call(RESEARCHER, "code.request_code_execution", code=submission)
    datasite_process.approve_all()
    uid = ours.asset().action_id

    def ask(number: int = 1) -> Any:
        return ours.call(RESEARCHER, "code.call", uid=request.code_id, records=uid, round=number)

    def certificates() -> Any:
        return ours.call(RESEARCHER, "datasite.certificates", code=str(request.code_id))

    ask()
    assert wait_for(certificates, 60)
    spent = datasite_process.json("ledger")["balances"][0]["epsilon_spent"]
    for _ in range(4):
        ask()
    with pytest.raises(Refusal, match=r"round|completed"):
        ask(2)
    assert len(certificates()) == 1
    assert datasite_process.json("ledger")["balances"][0]["epsilon_spent"] == spent


POLICY = """class Evil({base}):
    def __init__(self) -> None:
        pass

    open({marker!r}, "w").close()
"""


@pytest.mark.parametrize("kind", ["input", "output"])
def test_submitted_policy_is_not_taken(ours: Site, tmp_path: Path, kind: str) -> None:
    marker = tmp_path / "ran"
    base = "CustomInputPolicy" if kind == "input" else "CustomOutputPolicy"
    text = POLICY.format(base=base, marker=str(marker))
    policy = SubmitUserPolicy.model_construct(id=UID(), code=text, class_name="Evil", input_kwargs=[])
    submission = ours.submission(COUNT.format(name="with_policy"))
    setattr(submission, f"{kind}_policy_type", policy)
    with pytest.raises(Refusal, match="may not carry 'SubmitUserPolicy'"):
        ours.call(RESEARCHER, "code.request_code_execution", code=submission)
    assert not marker.exists()


def test_services_take_no_submitted_policy_either() -> None:
    """The second wall: where the class passed, the service refuses it."""
    from datasites.door.syft.guard import Refused
    from datasites.door.syft.services import _submitted_asset

    server = SimpleNamespace(server=SimpleNamespace(id=UID()))
    for input_policy, output_policy in (
        (SubmitUserPolicy.model_construct(), sy.SingleExecutionExactOutput),
        (UID(), sy.SingleExecutionExactOutput),
        (InputPolicy, sy.SingleExecutionExactOutput),
        (sy.MixedInputPolicy, SubmitUserPolicy.model_construct()),
        (sy.MixedInputPolicy, UID()),
    ):
        code = SimpleNamespace(
            input_policy_type=input_policy, output_policy_type=output_policy, input_policy_init_kwargs={}
        )
        with pytest.raises(Refused, match=r"policy|policies"):
            _submitted_asset(code, server)  # type: ignore[arg-type]


def test_an_exact_match_binds_the_records_of_this_datasite_and_nothing_else(ours: Site) -> None:
    """A single-use function's inputs are objects by identifier: one that is more than the asset is another request."""
    asset, alone = ours.asset().action_id, "def single(records):\n    return 1\n"
    matches = Matches(kw="records", val=asset)
    for bound in (
        {},
        {ours.identity(): {}},
        {ours.identity(): {"records": asset, "weights": asset}},
        {ours.identity(): {"rows": asset}},
        {ours.identity(): {"records": matches}},
    ):
        submission = ours.submission(alone, input_policy_type=sy.ExactMatch, input_policy_init_kwargs=bound)
        with pytest.raises(Refusal, match=r"input policy must be|Bind records=asset"):
            ours.call(RESEARCHER, "code.request_code_execution", code=submission)
    elsewhere = ours.submission(
        SINGLE, input_policy_type=sy.ExactMatch, input_policy_init_kwargs={ours.identity(): {"records": UID()}}
    )
    with pytest.raises(Refusal):
        ours.call(RESEARCHER, "code.request_code_execution", code=elsewhere)


def test_an_exact_match_is_stored_as_our_own_policy(ours: Site) -> None:
    bound = {ours.identity(): {"records": ours.asset().action_id}}
    submission = ours.submission(SINGLE, input_policy_type=sy.ExactMatch, input_policy_init_kwargs=bound)
    request = ours.call(RESEARCHER, "code.request_code_execution", code=submission)
    code = ours.call(RESEARCHER, "code.get_by_id", uid=request.code_id)
    assert code.input_policy_type is sy.MixedInputPolicy
    assert code.output_policy_type is sy.SingleExecutionExactOutput


SINGLE = """def single_use(records):
    from datasites.mechanisms import statistics

    return statistics(records, count=True, epsilon=0.1)
"""
RUNS = """def {name}(records):
    open({marker!r}, "w").close()
    return records.shape[0]
"""


def test_owners_call_runs_no_submitted_code(site: Site, tmp_path: Path) -> None:
    """A stock server runs whatever was submitted when an administrator calls it, approved or not."""
    marker = tmp_path / "ran"
    source = RUNS.format(name=f"called_{site.name}", marker=str(marker))
    code = UID()
    if site.is_stock:
        code = stored_code(site, source).id
    else:
        with pytest.raises(Refusal):
            stored_code(site, source)
        with pytest.raises(Refusal, match="line"):
            site.call(RESEARCHER, "code.request_code_execution", code=site.submission(source))
    called = site.succeeds(OWNER, "code.call", uid=code, records=site.asset().action_id)
    assert called is site.is_stock
    assert marker.exists() is site.is_stock


def test_approved_code_runs_in_no_server_of_ours(site: Site, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    submission = site.submission(RUNS.format(name=f"approved_{site.name}", marker=str(marker)))
    try:
        request = site.call(RESEARCHER, "code.request_code_execution", code=submission)
        site.call(OWNER, "request.apply", uid=request.id)
        site.call(RESEARCHER, "code.call", uid=request.code_id, records=site.asset().action_id)
    except Refusal:
        pass
    assert marker.exists() is site.is_stock


def test_call_on_ones_own_arguments_runs_nothing(ours: Site) -> None:
    """PySyft runs unapproved code on arguments that the caller owns; here such a call is refused like any other."""
    request = ours.call(
        RESEARCHER, "code.request_code_execution", code=ours.submission(COUNT.format(name="on_own_arguments"))
    )
    own = ActionObject.from_obj(torch.ones(3, 3))
    for arguments in ({}, {"records": own, "round": 1}, {"records": UID(), "round": UID()}):
        with pytest.raises(Refusal):
            ours.call(RESEARCHER, "code.call", uid=request.code_id, **arguments)
    with pytest.raises(Refusal, match="not approved"):
        ours.call(RESEARCHER, "code.call", uid=request.code_id, records=own, round=1)


def changed(name: str) -> dict[str, Any]:
    """Fields of a submission that do not fit its source."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD

    def signature(*names: str) -> inspect.Signature:
        return inspect.Signature([inspect.Parameter(each, kind) for each in names])

    return {
        "another name": {"func_name": "harmless"},
        "another signature": {"signature": signature("records")},
        "datasite parameter": {"signature": signature("records", "round", "datasite")},
        "another order": {"signature": signature("round", "records")},
        "other arguments": {"input_kwargs": ["records", "round", "context"]},
    }[name]


@pytest.mark.parametrize(
    "name", ["another name", "another signature", "datasite parameter", "another order", "other arguments"]
)
def test_submission_that_differs_from_its_source_is_refused(ours: Site, name: str) -> None:
    submission = ours.submission(COUNT.format(name="differs"), **changed(name))
    with pytest.raises(Refusal, match="Submit the function as it is written"):
        ours.call(RESEARCHER, "code.request_code_execution", code=submission)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (COUNT.format(name="long") + "#" * (64 << 10), "longer than 65536 bytes"),
        (COUNT.format(name="wide").replace("epsilon=0.1", "epsilon=0.1)  # " + "é" * 40_000 + "\n    ("), "longer"),
        ("def uses(records, round, datasite):\n    datasite.launch_job(nested)\n    return records\n", "line"),
        ("def two(records, round):\n    return 1\n\n\ndef three(records, round):\n    return 2\n", "line"),
    ],
    ids=["long", "long in bytes", "uses_datasite", "two functions"],
)
def test_source_that_syft_would_read_otherwise_is_refused(ours: Site, source: str, words: str) -> None:
    with pytest.raises(Refusal, match=words):
        ours.call(RESEARCHER, "code.request_code_execution", code=ours.submission(source))


def test_policy_binds_one_asset_of_this_server_and_no_constants(ours: Site) -> None:
    submission = ours.submission(COUNT.format(name="bound"))
    assert submission.input_policy_init_kwargs is not None
    ((identity, rules),) = submission.input_policy_init_kwargs.items()
    other = identity.model_copy(update={"server_id": UID()})
    for bound in (
        {},
        {other: rules},
        {identity: rules, other: rules},
        {identity: {"round": rules["round"]}},
        {identity: {**rules, "weights": rules["records"]}},
    ):
        submission.input_policy_init_kwargs = bound
        with pytest.raises(Refusal, match="records=asset"):
            ours.call(RESEARCHER, "code.request_code_execution", code=submission)
    submission.input_policy_init_kwargs = {identity: {**rules, "weights": Constant(kw="weights", val=1, klass=int)}}
    with pytest.raises(Refusal, match="may not carry 'PreFill'"):
        ours.call(RESEARCHER, "code.request_code_execution", code=submission)


def test_stored_code_object_is_not_submitted_again(ours: Site) -> None:
    request = ours.call(RESEARCHER, "code.request_code_execution", code=ours.submission(COUNT.format(name="again")))
    code = ours.call(RESEARCHER, "code.get_by_id", uid=request.code_id)
    with pytest.raises(Refusal, match="may not carry 'UserCode"):
        ours.call(RESEARCHER, "code.request_code_execution", code=code)
    for path in ("request.apply", "request.undo"):
        with pytest.raises(Refusal, match="may not call"):
            ours.call(RESEARCHER, path, uid=request.id)
    status = ours.call(RESEARCHER, "datasite.request_status", code=str(request.code_id))
    assert status["status"] == "checked"


def test_what_is_stored_is_made_here_from_the_text(ours: Site) -> None:
    """No field of the researcher's object is kept but its text: pool, policies and signature are the datasite's."""
    submission = ours.submission(COUNT.format(name="made_here"), worker_pool_name="evil")
    request = ours.call(RESEARCHER, "code.request_code_execution", code=submission)
    code = ours.call(RESEARCHER, "code.get_by_id", uid=request.code_id)
    assert code.worker_pool_name != "evil"
    assert code.output_policy_type is sy.SingleExecutionExactOutput
    assert code.input_policy_type is sy.MixedInputPolicy
    assert not code.uses_datasite
    assert not code.nested_codes


def test_extra_change_opens_the_table_on_a_stock_server(stock: Site) -> None:
    # The last test here: from now on the stock server takes the table for the researcher's own.
    uid = stock.asset().action_id
    link = LinkedObject.from_uid(uid, ActionObject, service_type=_service(), server_uid=stock.server_id())
    change = ActionStoreChange(linked_obj=link, apply_permission_type=ActionPermission.READ)
    request = stock.call(RESEARCHER, "request.submit", request=SubmitRequest(changes=[change]))
    stock.call(OWNER, "request.apply", uid=request.id)
    assert stock.succeeds(RESEARCHER, "action.get", uid=uid)
