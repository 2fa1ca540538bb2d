"""Jobs, notifications, projects and passwords of a stock client: read from the ledger at each call, and never kept.

PySyft's own jobs, workers and logs do not exist here. What a client is shown in their place are plain objects made for
one answer: a run as a Job, what was decided and written as Notifications, an agreement as a Project.

Annotations are real objects here, not strings: PySyft sends the signatures of service methods to its clients.
"""

import uuid
from datetime import datetime
from typing import Any

from syft.client.api import ServerIdentity
from syft.serde.serializable import serializable
from syft.service.action.action_object import ActionObject
from syft.service.context import AuthedServiceContext
from syft.service.job.job_service import JobService
from syft.service.job.job_stash import Job, JobStatus
from syft.service.log.log_service import LogService
from syft.service.notification.notifications import Notification, NotificationStatus
from syft.service.project.project import DemocraticConsensusModel, Project, ProjectRequest
from syft.service.project.project_service import ProjectService
from syft.service.request.request import Request
from syft.service.request.request_service import RequestService
from syft.service.response import SyftError
from syft.service.user.user import UserView
from syft.service.user.user_service import UserService
from syft.service.worker.worker_service import WorkerService
from syft.store.linked_obj import LinkedObject
from syft.types.datetime import DateTime
from syft.types.uid import UID

from datasites.actions.seen import News, news_seen, projects_seen, run_seen, runs_seen, set_own_password
from datasites.datasite import Datasite
from datasites.door.syft.callers import actor_of, public_errors
from datasites.door.syft.guard import Refused, is_inside
from datasites.door.syft.tensors import tensor_of
from datasites.ledger.records import CodeRequestRecord, Run
from policies.source.statuses import RunStatus
from policies.text import visible

NOTHING_PRINTED = "What a run prints stays with the hospital: its owner reads it with `datasite runs`."
FAILED = "The round failed. Its owner can see why; ask again, or write on the request."
ONLY_A_PASSWORD = (
    "The hospital keeps accounts: ask it for another name, e-mail or role. `client.account.set_password()` changes your"
    " own password."
)
RUNNER = "The datasite's own runner: one confined job for each round."
OURS = uuid.UUID("5b0f7a2e-6a0c-4f0e-9c39-0d2d3f0f8d55")  # names what is made for an answer, the same at each call
STATUSES = {
    RunStatus.RESERVED: JobStatus.PROCESSING,
    RunStatus.RUNNING: JobStatus.PROCESSING,
    RunStatus.RELEASED: JobStatus.COMPLETED,
    RunStatus.FAILED: JobStatus.ERRORED,
    RunStatus.VOID: JobStatus.INTERRUPTED,
}


def job_of(context: AuthedServiceContext, run: Run) -> Job:
    """A run as PySyft's Job, without its result. Reasons of failures are the owner's, and are not in it."""
    status = STATUSES[run.status]
    job = Job(
        id=UID(run.id),
        server_uid=context.server.id,
        user_code_id=UID(run.request),
        log_id=UID(run.id),
        status=status,
        resolved=status is not JobStatus.PROCESSING,
        creation_time=run.created_at,
        result=None,
    )
    # A client finds by these the session that an object is of.
    job.syft_server_location, job.syft_client_verify_key = context.server.id, context.credentials
    return job


@serializable(canonical_name="GuardedJobService", version=1)
class GuardedJobService(JobService):
    """The caller's runs."""

    datasite: Datasite

    def get(self, context: AuthedServiceContext, uid: UID, communication_protocol: Any = None) -> Job:
        """One run, with its release where the caller's it is and where it shows."""
        with public_errors():
            run, answer = run_seen(self.datasite, actor_of(context), _hex(uid))
        job = job_of(context, run)
        if answer["status"] == "running":
            return job
        job.status, job.resolved = STATUSES[RunStatus(answer["status"])], True
        if answer["release"] is not None:
            job.result = _result(context, run, answer)
        elif answer["status"] != "released":
            job.result = SyftError(message=FAILED)
        return job

    def get_all(self, context: AuthedServiceContext, communication_protocol: Any = None) -> list[Job]:
        """The newest runs of the caller, or of everybody for the owner."""
        with public_errors():
            return [job_of(context, run) for run in runs_seen(self.datasite, actor_of(context))]

    def get_by_user_code_id(
        self, context: AuthedServiceContext, user_code_id: UID, communication_protocol: Any = None
    ) -> list[Job]:
        """Those of one request."""
        return [job for job in self.get_all(context) if job.user_code_id == user_code_id]

    def get_subjobs(self, context: AuthedServiceContext, uid: UID, communication_protocol: Any = None) -> list[Job]:
        """None: a run starts no other."""
        return []

    def get_active(self, context: AuthedServiceContext, communication_protocol: Any = None) -> list[Job]:
        """Those that have yet to end."""
        return [job for job in self.get_all(context) if not job.resolved]


@serializable(canonical_name="GuardedLogService", version=1)
class GuardedLogService(LogService):
    """One sentence in the place of every log."""

    datasite: Datasite

    def get_stdout(self, context: AuthedServiceContext, uid: UID, communication_protocol: Any = None) -> str:
        """Where what a run prints is read."""
        return NOTHING_PRINTED

    def get_stderr(self, context: AuthedServiceContext, uid: UID, communication_protocol: Any = None) -> str:
        """Nothing."""
        return ""

    def has_storage_permission(
        self, context: AuthedServiceContext, uid: UID, communication_protocol: Any = None
    ) -> bool:
        """Yes: a client warns of a placeholder otherwise."""
        return True


@serializable(canonical_name="GuardedWorkerService", version=1)
class GuardedWorkerService(WorkerService):
    """One line: a client's `job.wait()` asks whether anybody works at all."""

    datasite: Datasite

    def list(self, context: AuthedServiceContext, communication_protocol: Any = None) -> list[str]:
        """What PySyft calls `worker.get_all`: that there is a runner, and nothing of how it is."""
        return [RUNNER]


@serializable(canonical_name="GuardedProjectService", version=1)
class GuardedProjectService(ProjectService):
    """Agreements of the ledger, each with the requests under it that the caller may see."""

    datasite: Datasite

    def get_all(self, context: AuthedServiceContext, communication_protocol: Any = None) -> list[Project]:
        """The caller's projects, or all for the owner."""
        with public_errors():
            seen = projects_seen(self.datasite, actor_of(context))
        return [self._as_project(context, project, records) for project, records in seen]

    def get_by_name(self, context: AuthedServiceContext, name: str, communication_protocol: Any = None) -> Project:
        """One of them by name."""
        return self._one(context, "name", name)

    def get_by_uid(self, context: AuthedServiceContext, uid: UID, communication_protocol: Any = None) -> Project:
        """One of them by identifier."""
        return self._one(context, "id", uid)

    def can_create_project(self, context: AuthedServiceContext, communication_protocol: Any = None) -> bool:
        """True, so that a client goes on to ask for one, and reads who makes projects."""
        return True

    def _one(self, context: AuthedServiceContext, attribute: str, wanted: Any) -> Project:
        found = [project for project in self.get_all(context) if getattr(project, attribute) == wanted]
        if not found:
            raise Refused("You have no such project here. `client.projects` lists yours.")
        return found[0]

    def _as_project(self, context: AuthedServiceContext, project: Any, records: list[CodeRequestRecord]) -> Project:
        server, hospital = context.server, visible(self.datasite.settings.name)
        ends = project.why_ended if project.has_ended(self.datasite.ledger.projects.now()) else f"Until {project.ends}."
        return Project(
            id=_named(f"project {project.id}"),
            name=visible(project.name),
            description=visible(ends),
            members=[],
            username=hospital,
            created_by=self.datasite.settings.owner_email,
            events=[
                ProjectRequest(
                    id=_named(f"event {record.id}"),
                    project_id=_named(f"project {project.id}"),
                    linked_request=_link(context, record),
                )
                for record in records
            ],
            state_sync_leader=ServerIdentity(server_name=hospital, server_id=server.id, verify_key=server.verify_key),
            consensus_model=DemocraticConsensusModel(),
            project_permissions=set(),
        )


@serializable(canonical_name="GuardedUserService", version=1)
class GuardedUserService(UserService):
    """Accounts as PySyft has them for the datasite itself; of a client's calls a researcher's own password alone."""

    datasite: Datasite

    def update(
        self, context: AuthedServiceContext, uid: UID, communication_protocol: Any = None, **changes: Any
    ) -> UserView:
        """A new password of the caller's own account; its clients are signed out."""
        if is_inside():
            return UserService.update(self, context, uid=uid, **changes)
        own = self.stash.get_by_verify_key(context.server.verify_key, context.credentials).unwrap()
        if not _is_own_password(own, uid, changes):
            raise Refused(ONLY_A_PASSWORD)
        with public_errors():
            set_own_password(self.datasite, actor_of(context), changes["password"])
        return own.to(UserView)


def _is_own_password(own: Any, uid: Any, changes: dict[str, Any]) -> bool:
    """Whether a change is of the caller's own account, and of nothing but its password."""
    return bool(uid == own.id) and set(changes) == {"password"} and isinstance(changes["password"], str)


def notifications_of(context: AuthedServiceContext, datasite: Datasite) -> list[Notification]:
    """What was decided and written, newest first, each linked to its request; read or not is nobody's to keep."""
    with public_errors():
        return [_notification(context, piece) for piece in news_seen(datasite, actor_of(context))]


def _notification(context: AuthedServiceContext, piece: News) -> Notification:
    return Notification(
        id=_named(piece.key),
        subject=f"{visible(piece.request.function)}: {visible(piece.text)}",
        server_uid=context.server.id,
        from_user_verify_key=context.server.verify_key,
        to_user_verify_key=context.credentials,
        created_at=DateTime(utc_timestamp=datetime.fromisoformat(piece.at).timestamp()),
        status=NotificationStatus.UNREAD,
        linked_obj=_link(context, piece.request),
    )


def _link(context: AuthedServiceContext, record: CodeRequestRecord) -> LinkedObject:
    """A link to a request, which `notifications.resolve_object` follows for whoever may see it."""
    link = LinkedObject(
        server_uid=context.server.id,
        service_type=RequestService,
        object_type=Request,
        object_uid=UID(record.syft["request"]),
    )
    link.syft_server_location, link.syft_client_verify_key = context.server.id, context.credentials
    return link


def _result(context: AuthedServiceContext, run: Run, answer: dict[str, Any]) -> ActionObject:
    """A release as an object under one identifier, kept once: a client that waits asks again and again."""
    action, wanted = context.server.services.action, _named(f"result {run.id}")
    if action.stash.exists(credentials=context.server.verify_key, uid=wanted):
        return action.get(context, wanted)
    tensors = {name: tensor_of(array) for name, array in answer["release"].items()}
    result = ActionObject.from_obj({**answer, "release": tensors}, id=wanted)
    action.set_result_to_store(result, context, None).unwrap()
    return result


def _named(text: str) -> UID:
    """An identifier that a text has always, in the version that PySyft turns every other into."""
    return UID(uuid.UUID(bytes=uuid.uuid5(OURS, text).bytes, version=4))


def _hex(uid: UID) -> str:
    if not isinstance(uid, UID):
        raise Refused("Name a job by its identifier.")
    return str(uid.value.hex)
