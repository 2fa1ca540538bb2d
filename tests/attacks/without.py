"""Takes out each defence in turn and shows which tests then fail. A defence that no test misses is a gap.

    python -m tests.attacks.without [NAME ...]

Each is taken out in processes of their own, the datasites and jobs that the tests start included, by replacing a
function or a list; nothing on disk changes. Prints a Markdown table of defences and the tests that noticed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from datasites.people.roles import Role

VARIABLE = "WITHOUT_DEFENCE"
CORPUS = "tests/attacks/test_corpus.py"
INSPECTION = "tests/policies/source/test_inspection.py"
MODELS = "tests/attacks/test_models.py"
ISOLATION = "tests/attacks/runner/test_isolation.py"
JOBS = "tests/attacks/runner/test_jobs.py"
ANCESTOR = "tests/attacks/runner/test_common_ancestor.py"
FILTERS = "tests/policies/schema/test_filters.py"
QUESTIONS = "tests/policies/schema/test_questions.py"
KERNELS = "tests/datasites/engine/test_constant_time.py"
LANES = "tests/datasites/engine/lanes/test_{}.py"
BODIES = "tests/datasites/engine/test_body_values.py"
PACE = "tests/attacks/runner/test_pace.py"
GUARD = "tests/attacks/guard/test_{}.py"
TAMPERING = "tests/datasites/ledger/test_verification.py"
PARTS = "tests/datasites/ledger/test_parts.py"
YEARS = "tests/datasites/ledger/test_years.py"
ACCOUNTS = "tests/datasites/ledger/test_accounts.py"
TWO_PEOPLE = "tests/datasites/review/test_two_people.py"
LIMITS = "tests/datasites/door/test_connections.py"
DOORS = "tests/browser/test_doors.py"
PROJECTS = "tests/browser/test_projects.py"
HOSPITALS = "tests/attacks/hospitals/test_hospitals.py"
SIGNALS = "tests/datasites/vault/test_signals.py"
VOLUMES = "tests/datasites/vault/test_volumes.py"
TENSORS = "tests/datasites/vault/test_tensor_sources.py"
SECURE_ROUNDS = "tests/datasites/review/test_secure_rounds.py"
SHARED_NOISE = "tests/datasites/review/test_shared_noise.py"
OPENED = "tests/researcher/test_opened_sums.py"
SUMS = "tests/attacks/test_secure_sums.py"
WORKBOOKS = "tests/datasites/vault/test_workbooks.py"
PUBLIC_WEIGHTS = "tests/datasites/vault/test_public_weights.py"
MODEL_PARTS = "tests/datasites/review/test_model_parts.py"
DEVICES = "tests/researcher/devices/test_{}.py"
RELAYS = "tests/attacks/relays/test_{}.py"
ELSEWHERE = "tests/attacks/runner/test_elsewhere.py"
FLOWER_APP = "tests/researcher/test_flower_app.py"
FLOWER = "tests/attacks/test_flower_servers.py"
ENOUGH = "3"  # failures, and the rest need not be run


@dataclass(frozen=True)
class Defence:
    """What stands, how it is taken out, and which tests stand for it (pytest's arguments)."""

    what: str
    out: Callable[[], None]
    tests: tuple[str, ...]


def find(where: str) -> tuple[Any, str]:
    """The module or class of `module:name` or `module:Class.name`, and the name in it."""
    module, _, path = where.partition(":")
    target = importlib.import_module(module)
    *parents, name = path.split(".")
    for each in parents:
        target = getattr(target, each)
    assert hasattr(target, name), f"{where} is not there any more"
    return target, name


def put(where: str, value: Any) -> None:
    """Replace `module:name` or `module:Class.name`."""
    target, name = find(where)
    setattr(target, name, value)


def places_of(name: str) -> list[str]:
    """All that taking a defence out would replace; nothing is. Raises where a place is not there any more."""
    places: list[str] = []

    def look(where: str, _: Any) -> None:
        find(where)
        places.append(where)

    with mock.patch(f"{__name__}.put", look):
        DEFENCES[name].out()
    return places


def nothing(*places: str) -> Callable[[], None]:
    """Functions that do nothing any more."""
    return lambda: [put(each, lambda *_, **__: None) for each in places] and None


def instead(where: str, value: Any) -> Callable[[], None]:
    """Something else in the place of a function or a list."""
    return lambda: put(where, value)


def _any_certificate() -> None:
    """Neither a datasite nor the machine of its jobs looks at the other's certificate."""
    import ssl

    from datasites.jobs import pinned

    strict = pinned._context

    def lenient(*arguments: Any) -> ssl.SSLContext:
        context = strict(*arguments)
        context.verify_mode = ssl.CERT_NONE
        return context

    put("datasites.jobs.pinned:_context", lenient)
    for side in ("elsewhere", "machine"):
        put(f"datasites.jobs.{side}:check_other_side", lambda *_: b"anybody")


def _kept_nowhere(book: Any, kind: str, name: str, content: str, *, charge: int = 0) -> None:
    """A device's ledger that holds its budget and nothing else."""
    if kind == "fact":
        book._connection.execute("INSERT OR REPLACE INTO kept VALUES (?, ?, ?, 0)", (kind, name, content))


class Everything(frozenset[Any]):
    """A list that holds whatever is asked for."""

    def __contains__(self, _: object) -> bool:
        return True


def _anybodys_answer(passing: Any, _: Any, uid: Any) -> Any:
    return next((answer for held in passing._held.values() for answer in held if answer.id == uid), None)


def _unpack_all(_: Any, __: Any, content: Any, unpacked: Any, ___: Any) -> None:
    unpacked.write(content.read())


def _scaled_anyhow(_: Any, stored: Any) -> Any:
    return stored.astype("float32")


def _all_accounts() -> None:
    from syft.service.user.user_roles import ServiceRole

    put("datasites.door.syft.guard:Entry.role_of", lambda *_: ServiceRole.DATA_SCIENTIST)


def _all_signatures() -> None:
    import datasites.door.syft.guard as guard

    class Believes(guard.VerifyKey):  # type: ignore[misc]
        def verify(self, smessage: bytes, *_: Any, **__: Any) -> bytes:
            return smessage

    put("datasites.door.syft.guard:VerifyKey", Believes)


def _all_paths() -> None:
    import datasites.door.syft.guard as guard

    put("datasites.door.syft.guard:PATHS", dict.fromkeys(guard.PATHS, Everything()))


def _any_size() -> None:
    for name in ("DEEPEST", "MOST_OBJECTS", "TENSOR_BYTES"):
        put(f"datasites.door.syft.guard:{name}", 1 << 60)


def _library_reads() -> None:
    import syft.serde.recursive as recursive

    def read(blob: bytes) -> Any:
        with recursive.recursive_scheme.from_bytes(blob, traversal_limit_in_words=2**64 - 1) as message:
            return SimpleNamespace(
                canonicalName=message.canonicalName,
                version=message.version,
                fieldsName=list(message.fieldsName),
                fieldsData=[[bytes(part) for part in each] for each in message.fieldsData],
                nonrecursiveBlob=[bytes(each) for each in message.nonrecursiveBlob],
            )

    put("datasites.door.syft.guard:read_named", read)
    put("policies.wire.envelopes:read_named", read)
    put(
        "datasites.door.syft.guard:_BoundedSchema.from_bytes",
        lambda self, blob, **options: self._schema.from_bytes(blob, **options),
    )


@contextmanager
def _as_it_comes(_: str) -> Iterator[None]:
    """Errors of services with their traceback, as PySyft hands them out."""
    import traceback

    from datasites.door.syft.guard import Refused

    try:
        yield
    except Refused:
        raise
    except Exception:
        raise Refused(traceback.format_exc()) from None


# -- what a relay between researcher and datasite would find


def _statements_of_all_times() -> None:
    put("policies.wire.sealing:_stated", lambda purpose, nonce, call_key, name: f"{purpose} {call_key.hex()}".encode())


def _statements_for_everything() -> None:
    put("policies.wire.sealing:_stated", lambda purpose, nonce, call_key, name: nonce + call_key)


def _anybodys_statement() -> None:
    from policies.wire.sealing import check_statement

    def check(content: bytes, *, purpose: str, nonce: bytes, of: bytes) -> Any:
        return check_statement(content, purpose=purpose, nonce=nonce)

    put("researcher.sealed_calls:check_statement", check)


def _unsealed_answers() -> None:
    from policies.wire.sealing import Answer

    put("researcher.sealed_calls:open_answer", lambda sealed, key: Answer(200, sealed))


def _any_token() -> None:
    async def check(*_: Any) -> None: ...

    put("researcher.coordinator:Coordinator._check_token", check)


# -- what a lying Flower server would find


def _any_tensor() -> None:
    import io

    import numpy as np

    put(
        "researcher.flower_wire:_tensor",
        lambda name, content, shape: np.load(io.BytesIO(content), allow_pickle=True).astype(np.float32),
    )


# -- what a hostile hospital would find on the researcher's side


def _answers_rebuilt() -> None:
    """Answers as PySyft reads them."""
    from syft.serde.deserialize import _deserialize

    put("researcher.client:read", lambda blob, *, largest: _deserialize(blob, from_bytes=True))


def _any_signer() -> None:
    from policies.wire.envelopes import read_envelope

    put("researcher.client:_opened", lambda content, expected, name: read_envelope(content).message)


def _any_number() -> None:
    for name in ("DEEPEST", "MOST_OBJECTS", "LONGEST_NUMBER"):
        put(f"researcher.answers:{name}", 1 << 60)


def _any_array() -> None:
    import researcher.answers as answers

    before = answers._Reader.__init__

    def started(self: Any, size: int, largest: int) -> None:
        before(self, size, 1 << 60)

    put("researcher.answers:_Reader.__init__", started)


def _any_length() -> None:
    import researcher.transport as transport

    before = transport._read_whole
    put("researcher.transport:_read_whole", lambda answer, largest: before(answer, 1 << 60))


def _redirects_read() -> None:
    import requests

    put("researcher.transport:Session.get_redirect_target", requests.Session.get_redirect_target)


def _any_shape() -> None:
    put("researcher.client:shaped", lambda value, *_: value)
    put("researcher.answers:check_description", lambda *_: None)


def _any_plan() -> None:
    put("researcher.code_requests:plan_facts", lambda *_: {})


def _first_code(service: Any, context: Any, uid: Any) -> Any:
    request = service.stash.get_by_uid(context.credentials, uid).unwrap()
    return request.changes[0].linked_user_code.resolve_with_context(context).unwrap().id


def _any_blob() -> None:
    def found(context: Any, uid: Any) -> Any:
        return context.server.services.blob_storage.stash.get_by_uid(context.server.verify_key, uid).unwrap()

    put("datasites.door.syft.services:_own_blob", found)


def _private_sides() -> None:
    from syft.service.action.action_service import ActionService

    put("datasites.door.syft.services:GuardedActionService.get", ActionService.get)


def _any_link() -> None:
    """Links as PySyft resolves them."""
    from syft.service.migration.migration_service import MigrationService
    from syft.service.notification.notification_service import NotificationService

    views = "datasites.door.syft.views"
    put(f"{views}:GuardedNotificationService.resolve_object", NotificationService.resolve_object)
    put(f"{views}:GuardedMigrationService._get_object", MigrationService._get_object)


def _whole_environment() -> None:
    def started(command: list[str], *, env: dict[str, str], **options: Any) -> Any:
        return subprocess.Popen(command, env={**os.environ, **env}, **options)

    taken = SimpleNamespace(Popen=started, PIPE=subprocess.PIPE, TimeoutExpired=subprocess.TimeoutExpired)
    put("datasites.jobs.pool:subprocess", taken)


def _from_the_plan(line: Any) -> dict[str, Any]:
    from datasites.ledger import records

    records.parsed_plan("{}")
    return {**vars(line), "status": line.status.value}


def _any_answer() -> None:
    put("datasites.jobs.pool:LARGEST_ANSWER", 1 << 40)
    put("datasites.jobs.pool:_plain", lambda message: message)


def _no_triggers() -> None:
    import datasites.ledger.tables as tables

    kept = tuple(each for each in tables.TABLES if "TRIGGER" not in each)
    put("datasites.ledger.store:TABLES", kept)
    put("datasites.ledger.verification:TABLES", kept)


def _clocks_own_time(store: Any) -> str:
    from datasites.ledger.store import iso

    return iso(store._clock())


def _no_chain() -> None:
    def rows(db: Any, table: str) -> Iterator[dict[str, Any]]:
        yield from (dict(row) for row in db.execute(f"SELECT * FROM {table} ORDER BY seq").fetchall())

    put("datasites.ledger.audit_log:check_chain", rows)
    put("datasites.ledger.verification:check_chain", rows)


def _no_heads() -> None:
    from datasites.ledger.ledger import Ledger

    put("datasites.ledger.ledger:Ledger.verify", lambda self, *, heads=(), _verify=Ledger.verify: _verify(self))


def _least_epsilon(self: Any, conversion_nano: int) -> int:
    """Whichever bound is less, though the sum of pure ε bounds nothing beside a training."""
    return min(self.divergence_nano + conversion_nano, self.pure_nano or 10**18) if any(self.as_row()) else 0


def _any_amount() -> None:
    from datasites.ledger.amounts import Amount

    put("datasites.ledger.ledger:amount_of", lambda charge: Amount(int(charge.divergence_nano), 0, 1, 0))


def _plain_kernels() -> None:
    import torch

    from datasites.engine.constant_time import KERNELS

    put("datasites.engine.constant_time:KERNELS", {name: getattr(torch, name, None) for name in KERNELS})


def _numbered() -> None:
    from datasites.engine.matrix import secure_permutation

    for module in ("datasites.engine.matrix", "datasites.vault.encoding"):
        put(f"{module}:secure_codes", secure_permutation)


def _all_records() -> None:
    from datasites.engine.matrix import grouped

    put("datasites.vault.encoding:grouped", lambda codes, held_out, most: grouped(codes, held_out, 1 << 40))


def _in_order() -> None:
    def by_order(codes: Any, size: int) -> Any:
        import numpy as np

        rows = np.arange(len(codes))
        parts = [rows[at : at + size] for at in range(0, len(rows), size)] or [rows]
        return [(each, np.arange(len(each))) for each in parts]

    put("datasites.engine.sampling:by_place", by_order)


def _sums_in_float() -> None:
    """Sums over records in float32, which depend on the order."""
    from datasites.engine.lanes.sums import LaneSums

    exact = LaneSums.sum

    def rounded(self: LaneSums, inputs: Any, labels: Any, rows: Any) -> Any:
        import numpy as np

        total = np.zeros(len(self.weights), np.float32)
        for row in rows:  # a unit and a third: no float32 holds it
            total += exact(self, inputs, labels, np.array([row])).astype(np.float32) * np.float32(4 / 3)
        return total.astype(np.int64)

    put("datasites.engine.lanes.sums:LaneSums.sum", rounded)


def _every_record_counts() -> None:
    """Evaluations score every record of a held-out patient, each in its own group."""
    import numpy as np

    put("datasites.engine.sampling:PatientRows.one_of_each", lambda self, _: np.arange(int(self._begins[-1])))


def _subgroups_at_no_cost() -> None:
    """Each table of an evaluation has the noise of all of its ε, as if it were the only one."""
    from dataclasses import replace

    from policies.release.evaluation_tables import evaluation_tables

    def each_alone(mechanism: Any, schema: Any, intervals: int) -> Any:
        tables = evaluation_tables(mechanism, schema, intervals)
        return tuple(replace(table, epsilon=mechanism.epsilon) for table in tables)

    put("datasites.engine.evaluation:evaluation_tables", each_alone)


def _every_record_analysed() -> None:
    """All records of a patient count in a table or in sums whose noise is that of one."""
    for module in ("survival", "regression"):
        put(f"datasites.engine.{module}:one_of_each", lambda schema, matrix, columns, source, where="": matrix)


def _rows_of_any_length() -> None:
    import numpy as np

    put("datasites.engine.noisy_sums:whole_units", lambda rows, bounded: np.rint(rows / bounded.norm / bounded.grid))


def _each_sum_alone() -> None:
    """Each of a regression's sums has the noise of all of its budget, as if it were the only one."""
    from policies.privacy.regression import parts_of

    put("datasites.engine.regression:parts_of", lambda asked: tuple((name, 1.0) for name, _ in parts_of(asked)))


def _regression_noise_left_to_masks() -> None:
    """A regression that leaves in a sum has an eighth of its noise, as if masks hid the rest."""
    from datasites.engine.regression import regression_sums

    def less(mechanism: Any, *arguments: Any) -> Any:
        if mechanism.secure_aggregation is not None:
            mechanism = replace(mechanism, noise_multiplier=mechanism.noise_multiplier / 8)
        return regression_sums(mechanism, *arguments)

    put("datasites.engine.regression:regression_sums", less)


def _scores_by_company() -> None:
    """Scores in lanes that depend, in their last bit, on how many are scored together."""
    from datasites.engine.lanes.scores import LaneScores

    exact = LaneScores.of

    def moved(self: LaneScores, inputs: Any) -> Any:
        import numpy as np

        scores, sound = exact(self, inputs)
        return np.nextafter(scores, np.float32(len(inputs) % 2 * 2 - 1)), sound

    put("datasites.engine.lanes.scores:LaneScores.of", moved)


def _bodies_in_order() -> None:
    """What a body gives of records is computed in places that are given in order."""
    from datasites.engine.body_values import BodyValues

    keyed = BodyValues._computed

    def placed(self: BodyValues, places: Any) -> Any:
        import numpy as np

        self._keys = np.arange(len(self._rows))
        return keyed(self, places)

    put("datasites.engine.body_values:BodyValues._computed", placed)


def _bodies_of_those_there() -> None:
    """A body runs over as many records as a table has."""
    from datasites.engine.body_values import BodyValues

    fill = BodyValues._fill

    def filled(self: BodyValues, leave: Any) -> None:
        self._slots = min(self._slots, len(self._rows))
        fill(self, leave)

    put("datasites.engine.body_values:BodyValues._fill", filled)


def _entities_read() -> None:
    os.environ["OPENPYXL_DEFUSEDXML"] = "False"
    put("openpyxl:DEFUSEDXML", True)  # as it says once it is imported


REPORTS = ("publication_report", "check_publication")


def _unmasked(_: Any, request: str, plan: Any, number: int, sent: str, release: Any, *rest: Any) -> Any:
    return dict(release)


def _anybody_reads_reports() -> None:
    from datasites.actions.registry import actions

    everybodys = {name: replace(actions()[name], roles=frozenset(Role)) for name in REPORTS}
    opened = {**actions(), **everybodys}
    put("datasites.actions.registry:actions", lambda: opened)


def _layer(name: str) -> Callable[[], None]:
    if name == "_set_limits":
        return instead(f"datasites.jobs.isolation:{name}", lambda limits, *_, **__: limits.of(0, 0))
    return instead(f"datasites.jobs.isolation:{name}", lambda *_: False)


def _corpus(*words: str) -> tuple[str, ...]:
    return (CORPUS, "-k", " or ".join(words))


def _any_public_weights() -> None:
    from policies.release.tensors import from_bytes

    put("datasites.vault.public_weights:_checked", lambda content, wanted, shapes: from_bytes(content))


def _endless_public_weights() -> None:
    put("datasites.vault.public_weights:LARGEST_PART", 1 << 60)
    put("datasites.vault.public_weights:_HEADER", 1 << 60)


def _endless_volumes() -> None:
    put("datasites.vault.volumes:MOST_VOXELS", 1 << 60)


DEFENCES: dict[str, Defence] = {
    "public-weights-digest": Defence(
        "the digest of public weights, when they come and at each use",
        _any_public_weights,
        (PUBLIC_WEIGHTS, MODEL_PARTS),
    ),
    "public-weights-size": Defence(
        "bounds of what public weights may take",
        _endless_public_weights,
        (PUBLIC_WEIGHTS,),
    ),
    "first-weights": Defence(
        "the first round's weights, and public weights before anything is charged",
        nothing("datasites.review.model_parts:ModelParts.check_ready"),
        (MODEL_PARTS,),
    ),
    "local-parts-stay": Defence(
        "local parameters are kept and taken out of what leaves",
        instead("datasites.review.model_parts:ModelParts.take_local", lambda parts, request, number, plan, all: all),
        (MODEL_PARTS,),
    ),
    "declared-parts": Defence(
        "the parts of an exporter's graph, held against the declaration",
        nothing("policies.graph.parts:check_parted", "datasites.review.planning:check_parted"),
        ("tests/datasites/review/test_planning.py",),
    ),
    "weight-files": Defence(
        "files of public weights are looked at before they are unpacked",
        nothing("researcher.weight_files:_check_unpacked"),
        ("tests/researcher/test_weight_files.py",),
    ),
    "inspection": Defence(
        "inspection of the source",
        instead("policies.source.inspection:_inspect", lambda _: ((), None)),
        _corpus("says"),
    ),
    "text-bounds": Defence(
        "bounds and characters of the text", nothing("policies.source.inspection:_check_text"), (INSPECTION,)
    ),
    "identifiers": Defence(
        "names in plain letters", nothing("policies.source.inspection:_check_identifiers"), (INSPECTION,)
    ),
    "private-parameters": Defence(
        "private parameters in one place", nothing("policies.source.inspection:_Reader._check_private"), (INSPECTION,)
    ),
    "request-head": Defence(
        "head of a request", nothing("policies.source.inspection:_Reader._check_head"), (INSPECTION,)
    ),
    "one-line": Defence(
        "one statement a line", nothing("policies.source.inspection:_Reader._check_lines"), (INSPECTION,)
    ),
    "constants": Defence(
        "bounds on what constants come to",
        nothing("policies.source.model_classes:why_too_large"),
        (INSPECTION, "-k", "finding_of_its_rule"),
    ),
    "model-class": Defence(
        "list for model classes", nothing("policies.source.model_classes:ClassReader.read"), _corpus("says")
    ),
    "modules": Defence("no state or chance in layers", nothing("policies.graph.exporter:_check_modules"), (MODELS,)),
    "batches": Defence("records apart in a batch", nothing("policies.graph.exporter:_check_batches"), (MODELS,)),
    "traced": Defence(
        "no gradients of its own",
        nothing("policies.graph.exporter:_check_traced"),
        (MODELS, "tests/policies/graph/test_exporter.py"),
    ),
    "graph": Defence(
        "list of operators in a graph",
        nothing("policies.graph.graphs:_check_nodes"),
        ("tests/policies/graph/test_graphs.py",),
    ),
    "shapes": Defence(
        "shapes computed anew before a run",
        nothing("datasites.engine.interpreter:_check_shapes"),
        ("tests/datasites/engine/test_interpreter.py", CORPUS, "-k", "interpreter or (runner and custom_ops)"),
    ),
    "calls": Defence("filter of system calls", _layer("_allow_calls"), (ISOLATION,)),
    "landlock": Defence("Landlock", _layer("_close_file_system"), (ISOLATION,)),
    "user": Defence("user of its own", _layer("_become_nobody"), (ISOLATION,)),
    "namespaces": Defence("namespaces", _layer("_leave_namespaces"), (ISOLATION,)),
    "limits": Defence("limits on resources", _layer("_set_limits"), (ISOLATION,)),
    "privileges": Defence("no new privileges", _layer("_take_no_privileges"), (ISOLATION,)),
    "descriptors": Defence(
        "inherited files closed", nothing("datasites.jobs.child:close_descriptors"), (JOBS, "-k", "own_connection")
    ),
    "environment": Defence(
        "environment emptied for jobs", _whole_environment, (CORPUS, "-k", "reaches and environment")
    ),
    "forked-files": Defence(
        "parents without the files of what they are forked from",
        nothing("datasites.jobs.zygote:close_descriptors"),
        (ANCESTOR, "-k", "open_file"),
    ),
    "inherited-draws": Defence(
        "noise that no parent drew in advance",
        nothing("datasites.jobs.child:_discard_inherited_draws"),
        (ANCESTOR, JOBS, "-k", "draw_differently and statistics"),
    ),
    "protections": Defence(
        "no rows where a protection is missing",
        nothing("datasites.jobs.pool:JobPool._check"),
        (JOBS, "-k", "missing or table"),
    ),
    "pinned-certificates": Defence(
        "certificates of both sides of jobs elsewhere", _any_certificate, (ELSEWHERE, "-k", "heard or between")
    ),
    "steady-stream": Defence(
        "rows sent elsewhere in pieces of one length",
        instead("datasites.jobs.rows:_Steady.write", lambda self, content: self._send(content) if content else None),
        (ELSEWHERE, "-k", "as_many_bytes"),
    ),
    "held-answers": Defence(
        "answers from elsewhere at public times", nothing("datasites.jobs.machine:_hold"), (ELSEWHERE, "-k", "times")
    ),
    "padded-answers": Defence(
        "answers from elsewhere of one length",
        instead("datasites.jobs.machine:PADDED_TO", 1),
        (ELSEWHERE, "-k", "printed"),
    ),
    "conditions": Defence(
        "conditions in a bounded language of our own",
        nothing("policies.privacy.mechanisms:parse"),
        (CORPUS, "-k", "says and condition"),
    ),
    "columns-of-conditions": Defence(
        "columns and values of conditions held against the schema",
        nothing("policies.schema.filters:_check"),
        (FILTERS, "-k", "refused"),
    ),
    "groups": Defence(
        "few groups, by different columns",
        nothing("policies.privacy.mechanisms:check_groupings"),
        (CORPUS, QUESTIONS, "-k", "group"),
    ),
    "answers": Defence("bounds of what a job says", _any_answer, (JOBS, "-k", "says or answer")),
    "tensors": Defence(
        "names, shapes and dtypes of tensors, finite weights",
        nothing("policies.release.tensors:check_tensors"),
        (JOBS, "tests/policies/release/test_tensors.py", "-k", "tensors or finite or refused or weights"),
    ),
    "whole-sums": Defence("sums over lanes in whole numbers", _sums_in_float, (LANES.format("hold"),)),
    "own-score": Defence(
        "scores of a record that depend on that record alone",
        _scores_by_company,
        (LANES.format("scores"), "-k", "company"),
    ),
    "body-places": Defence(
        "a record's own place in a frozen body's batch",
        _bodies_in_order,
        ("tests/attacks/runner/test_places.py", "-k", "frozen_body"),
    ),
    "body-time": Defence(
        "a frozen body's work, the same for every table", _bodies_of_those_there, (BODIES, "-k", "as_many_records")
    ),
    "program-addresses": Defence(
        "addresses of a program, checked before it runs",
        nothing("datasites.engine.lanes.verifier:_Slots.read", "datasites.engine.lanes.verifier:_Slots.write"),
        (LANES.format("verifier"), "-k", "refused or scratch or beyond"),
    ),
    "self-test": Defence(
        "a self-test of the kernels on this processor",
        nothing("datasites.engine.lanes.readiness:check_hold"),
        (LANES.format("training"), "-k", "self_test"),
    ),
    "places": Defence("a patient's own place in the batch", _in_order, ("tests/attacks/runner/test_places.py",)),
    "codes": Defence(
        "codes that tell nothing of other patients",
        _numbered,
        (
            "tests/attacks/runner/test_places.py",
            "tests/datasites/engine/test_matrix.py",
            "-k",
            "nobody_else or secure_codes",
        ),
    ),
    "even": Defence("kernels that take every value alike", _plain_kernels, (KERNELS, PACE)),
    "denormals": Defence(
        "numbers near zero that are zero",
        instead("torch:set_flush_denormal", lambda _: True),
        _corpus("slow_numbers"),
    ),
    "pace": Defence("time on the slowest values", instead("datasites.review.timing:slowest", lambda _: 1.0), (PACE,)),
    "heavy": Defence("a bound on one patient's records", _all_records, ("tests/attacks/runner/test_heavy_patient.py",)),
    "rehearsed-size": Defence(
        "a dry run of the public size",
        instead("datasites.jobs.child:LARGEST_SYNTHETIC", 1 << 20),
        ("tests/datasites/jobs/test_child.py", "-k", "public_size"),
    ),
    "rehearsed-steps": Defence(
        "a dry run of as many steps as the round has",
        instead("datasites.jobs.mock_run:ENOUGH_SECONDS", 0.0),
        ("tests/datasites/jobs/test_child.py", "-k", "steps"),
    ),
    "endings": Defence(
        "an end that tells no time",
        instead(
            "datasites.review.rounds:Rounds._revoked",
            lambda self, run: self.ledger.requests.get(run.request).status != "approved",
        ),
        ("tests/attacks/runner/test_endings.py",),
    ),
    "ended": Defence(
        "ended rounds that stay ended",
        instead("datasites.review.rounds:Rounds._check_goes_on", lambda self, run: None),
        ("tests/datasites/review/test_rounds.py",),
    ),
    "signed_out": Defence(
        "keys of clients that end with a password",
        nothing("datasites.door.syft.server:SyftDatasite._end_clients"),
        (GUARD.format("signed_out"),),
    ),
    "servers_key": Defence(
        "calls signed with the server's own key",
        instead(
            "datasites.door.syft.guard:Entry.account_of",
            lambda self, signer: self.server.verify_key if self.owner_key.signs(signer) else signer,
        ),
        (GUARD.format("signed_out"), "-k", "given_to_nobody"),
    ),
    "addresses": Defence(
        "addresses that pass for others",
        instead("policies.email_addresses:as_typed", lambda text: text.lower()),
        ("tests/policies/test_email_addresses.py",),
    ),
    "retired_requests": Defence(
        "requests that end with their dataset",
        nothing("datasites.ledger.ledger:Ledger._close_requests"),
        ("tests/datasites/ledger/test_datasets.py", "-k", "taken_back or closes"),
    ),
    "two_people": Defence(
        "two people who loosen the two-person rule",
        instead("datasites.review.two_people:TwoPeople.agreed", lambda self: None),
        (TWO_PEOPLE, "-k", "loosened_rule"),
    ),
    "second_accounts": Defence(
        "second reviewers whom the owner alone cannot make",
        instead("datasites.review.two_people:TwoPeople.needs_agreement", lambda self: False),
        (TWO_PEOPLE, "-k", "way_around or makes_no or gives_a_reviewer"),
    ),
    "closed_votes": Defence(
        "votes of closed accounts that do not count",
        nothing("datasites.review.decisions:Decisions._check_voters"),
        (TWO_PEOPLE, "-k", "closed_reviewer"),
    ),
    "signature": Defence("signature of a call", _all_signatures, (GUARD.format("bytes"), "-k", "changed")),
    "accounts": Defence("accounts in use", _all_accounts, _corpus("without_an_account", "for_strangers")),
    "classes": Defence(
        "list of classes in a call",
        instead("datasites.door.syft.guard:CLASSES", Everything()),
        (GUARD.format("requests"), "-k", "policy_is_not_taken or not_submitted_again"),
    ),
    "message-bounds": Defence("depth, number and size in a call", _any_size, (GUARD.format("bytes"), "-k", "bombs")),
    "capnp": Defence("reader of broken messages", _library_reads, (GUARD.format("bytes"),)),
    "paths": Defence("list of paths by role", _all_paths, (GUARD.format("calls"), "-k", "not_listed")),
    "replay": Defence(
        "calls answered once",
        instead("datasites.door.syft.guard:AnsweredCalls.is_new", lambda *_: True),
        _corpus("recorded_call"),
    ),
    "errors": Defence(
        "errors in our words",
        instead("datasites.door.syft.guard:_errors_in_words", _as_it_comes),
        (GUARD.format("calls"), "-k", "unexpected"),
    ),
    "one-code": Defence(
        "approval of one code alone",
        instead("datasites.door.syft.services:GuardedRequestService._only_code", _first_code),
        (GUARD.format("requests"), "-k", "swaps"),
    ),
    "own-blobs": Defence("uploads of one's own", _any_blob, (GUARD.format("objects"),)),
    "turns": Defence(
        "turns of each account",
        instead("datasites.door.syft.call_limits:Turns.taken", lambda *_, **__: nullcontext()),
        (GUARD.format("turns"),),
    ),
    "room": Defence(
        "room of each account", nothing("datasites.door.syft.uploads:Uploads.take"), (GUARD.format("uploads"),)
    ),
    "passing-answers": Defence(
        "answers held for their account alone",
        instead("datasites.door.syft.uploads:PassingAnswers.find", _anybodys_answer),
        (GUARD.format("uploads"), "-k", "passes"),
    ),
    "public-times": Defence(
        "rounds that show at a public time",
        instead("datasites.review.rounds:Rounds._shown_at_multiples_of", lambda *_: nullcontext()),
        ("tests/datasites/review/test_rounds.py", "-k", "said_to or public_time"),
    ),
    "call-memory": Defence(
        "memory of calls and of each account",
        nothing("datasites.door.memory:Memory.take"),
        (GUARD.format("memory"), "tests/datasites/door/test_memory.py"),
    ),
    "early-path": Defence(
        "path before arguments", nothing("datasites.door.syft.guard:check_path"), (GUARD.format("memory"),)
    ),
    "connections": Defence(
        "bounds on connections",
        instead("datasites.door.connections:Connections._make_room", lambda *_: True),
        (LIMITS, "-k", "half_open or room_is_made"),
    ),
    "waiting": Defence(
        "deadline of a request's head",
        nothing("datasites.door.connections:Connections.end_slow"),
        (LIMITS, "-k", "asks_for_nothing or byte_by_byte"),
    ),
    "least-rate": Defence(
        "least rate of bodies and answers",
        instead("datasites.door.connections:_within", lambda awaitable, _: awaitable),
        (LIMITS, "-k", "slowly or nobody_takes or honest"),
    ),
    "head-bytes": Defence(
        "bytes of a request's head",
        instead("datasites.door.connections:LARGEST_HEADER", 1 << 40),
        (LIMITS, "-k", "large_head"),
    ),
    "head-fields": Defence(
        "fields of a request's head",
        instead("datasites.door.connections:MOST_FIELDS", 1 << 40),
        (LIMITS, "-k", "large_head"),
    ),
    "forwarded": Defence(
        "addresses that gateways alone may tell",
        instead("datasites.door.connections:_as_connected", lambda app: app),
        (LIMITS, "-k", "believed"),
    ),
    "lock-out-address": Defence(
        "lock-out of an address alone",
        instead("datasites.people.lock_out:_key", lambda account, _: account.encode()),
        ("tests/datasites/people/test_lock_out.py",),
    ),
    "quotas": Defence(
        "quotas of submissions",
        nothing("datasites.review.submissions:Submissions._check_quotas"),
        ("tests/datasites/review/test_quotas.py",),
    ),
    "refused-beginnings": Defence(
        "beginnings of refused sources alone",
        instead("datasites.review.submissions:_beginning", lambda source: source),
        ("tests/datasites/review/test_quotas.py",),
    ),
    "exporter-time": Defence(
        "exporter's time of each account",
        instead("datasites.review.planning:Planner._exporting", lambda *_: nullcontext()),
        ("tests/datasites/review/test_quotas.py",),
    ),
    "lines": Defence(
        "lists that read no plan",
        instead("datasites.actions.requests:line_dict", _from_the_plan),
        ("tests/datasites/actions/test_request_lists.py",),
    ),
    "links": Defence("links lead to one's own requests alone", _any_link, (GUARD.format("links"), "-k", "no_link")),
    "own-parts": Defence(
        "parts of a request are its researcher's",
        instead("datasites.door.syft.views:_is_own", lambda *_: True),
        (GUARD.format("links"), "-k", "parts_of"),
    ),
    "own-runs": Defence(
        "jobs and projects of one's own requests alone",
        instead("datasites.actions.seen:_is_own", lambda *_: True),
        (GUARD.format("ledger_views"), "-k", "researcher_alone or nothing_of_others"),
    ),
    "own-password": Defence(
        "a client changes its account's password alone",
        instead("datasites.door.syft.ledger_views:_is_own_password", lambda *_: True),
        (GUARD.format("ledger_views"), "-k", "anothers_password or nothing_else"),
    ),
    "jobs": Defence(
        "calls that wait for nothing",
        instead("datasites.door.syft.guard:WITH_JOBS", Everything()),
        (GUARD.format("ledger_views"), "-k", "without_waiting"),
    ),
    "private-sides": Defence("private sides to nobody", _private_sides, (GUARD.format("objects"), "-k", "no_role")),
    "lock-out": Defence(
        "lock-out of passwords", instead("datasites.door.app:LockOut.begin", lambda *_: 0.0), _corpus("sixteen")
    ),
    "body": Defence(
        "bound of a body",
        instead("datasites.door.app:LARGEST_LOGIN", 1 << 40),
        (GUARD.format("routes"), "-k", "larger_than"),
    ),
    "routes": Defence(
        "list of routes",
        instead("datasites.door.app:ROUTES", Everything()),
        (GUARD.format("routes"), "-k", "not_listed or larger_than"),
    ),
    "triggers": Defence("triggers of the ledger's file", _no_triggers, (TAMPERING,)),
    "chain": Defence("hash chain", _no_chain, (TAMPERING,)),
    "replayed": Defence(
        "tables as the entries come to",
        nothing("datasites.ledger.verification:_compare"),
        (TAMPERING, *_corpus("ledger")),
    ),
    "split": Defence(
        "one share held out of a population",
        nothing("datasites.ledger.datasets:check_split"),
        (ACCOUNTS, *_corpus("split_a_population", "no_patient")),
    ),
    "accounts of a copy": Defence(
        "the larger account for both where a copy does not know the split",
        instead("datasites.ledger.amounts:Charged.in_both", property(lambda self: self)),
        (ACCOUNTS,),
    ),
    "pure and filtered": Defence(
        "no sum of pure ε beside a release without one",
        instead("datasites.ledger.amounts:Amount.epsilon_nano", _least_epsilon),
        ("tests/datasites/ledger/test_promise.py",),
    ),
    "heads": Defence("heads in certificates", _no_heads, _corpus("old_copy")),
    "budget": Defence(
        "admission within the budget", nothing("datasites.ledger.admission:Standing.check"), _corpus("ledger_notices")
    ),
    "reserved": Defence(
        "what is reserved for projects, which others cannot use",
        instead("datasites.ledger.admission:Standing.balance_for", lambda standing, *_: standing.balance),
        (PARTS, CORPUS, "-k", "others_cannot_use or reserved_split"),
    ),
    "named": Defence(
        "researchers whom the owner named for what is reserved",
        instead("datasites.ledger.kept:may_draw", lambda *_: True),
        (PARTS, CORPUS, "-k", "not_named or reserved_name"),
    ),
    "given back": Defence(
        "what is given back to the part that it was drawn on",
        nothing("datasites.ledger.runs:put_back"),
        (PARTS,),
    ),
    "freed": Defence(
        "parts that end with their project for good",
        nothing("datasites.ledger.parts:Parts.free_ended"),
        (PARTS, CORPUS, "-k", "brings_no_part_back or reserved_brought_back"),
    ),
    "year": Defence(
        "this year's part of a budget",
        nothing("datasites.ledger.admission:Standing._check_year"),
        (YEARS, CORPUS, "-k", "admits_its_part or year_spread"),
    ),
    "time": Defence(
        "a time that never goes back",
        instead("datasites.ledger.store:Store.now", _clocks_own_time),
        (YEARS, "-k", "clock_set_back or one_moment"),
    ),
    "plans": Defence(
        "a plan of no population that is a failing check",
        instead("datasites.review.decisions:plans_outcome", lambda *_: None),
        ("tests/browser/test_plans.py",),
    ),
    "amounts": Defence("charges that are positive numbers", _any_amount, _corpus("ledger_notices")),
    "form-tokens": Defence(
        "tokens of forms",
        lambda: (
            put("datasites.console.app:tokens_match", lambda *_: True),
            put("datasites.console.app:comes_from_here", lambda *_: True),
        )[0],
        (DOORS, "-k", "token or another_site"),
    ),
    "content-policy": Defence(
        "content policy of pages", instead("datasites.console.app:HEADERS", {}), (DOORS, "-k", "forbids_frames")
    ),
    "sessions": Defence(
        "forms of the console's own pages alone",
        instead("datasites.console.app:comes_from_here", lambda *_: True),
        (DOORS, "-k", "another_site"),
    ),
    "attachment_headers": Defence(
        "sandbox of files that others made",
        instead("datasites.console.thread_views:SANDBOX", {}),
        (PROJECTS, "-k", "no_page_shows"),
    ),
    "attachment_kind": Defence(
        "attachments that are PDF files alone",
        instead("datasites.actions.attachments:MAGIC", b""),
        (PROJECTS, "-k", "no_pdf"),
    ),
    "attachment_digest": Defence(
        "attachments as they were attached",
        instead("datasites.actions.attachments:is_unchanged", lambda *_: True),
        (PROJECTS, "-k", "changed_on_disk"),
    ),
    "project_end": Defence(
        "end of a project in the ledger",
        lambda: (
            put("datasites.ledger.runs:check_project", lambda *_: None),
            put("datasites.ledger.ledger:check_project", lambda *_: None),
        )[0],
        ("tests/datasites/ledger/test_projects.py",),
    ),
    "project_check": Defence(
        "end of a project as the judge sees it",
        instead("datasites.review.decisions:Decisions._project_checks", lambda *_: ()),
        (PROJECTS, "-k", "judge"),
    ),
    "thread_text": Defence(
        "threads in plain text",
        nothing("datasites.actions.comments:check_visible"),
        ("tests/browser/test_threads.py",),
    ),
    "one_record_scored": Defence(
        "one record of each patient in an evaluation",
        _every_record_counts,
        ("tests/datasites/engine/test_outcome_tables.py", "-k", "places and (several_groups or moves_each_table)"),
    ),
    "subgroup_shares": Defence(
        "ε that an evaluation's tables share",
        _subgroups_at_no_cost,
        ("tests/datasites/engine/test_outcome_tables.py", "-k", "places and shares_of_epsilon"),
    ),
    "last_layer": Defence(
        "last layers that fit their loss",
        instead("policies.release.model_outputs:mismatch_of", lambda *_: None),
        ("tests/policies/release/test_model_outputs.py",),
    ),
    "one_record_analysed": Defence(
        "one record of each patient in survival and a regression",
        _every_record_analysed,
        ("tests/datasites/engine/test_survival.py", "tests/datasites/engine/test_regression.py", "-k", "one_"),
    ),
    "held_rows": Defence(
        "rows of a regression held to their bound",
        _rows_of_any_length,
        ("tests/datasites/engine/test_regression.py", "-k", "moves_a_sum"),
    ),
    "shares_of_sums": Defence(
        "shares of a regression's budget for each of its sums",
        _each_sum_alone,
        ("tests/datasites/engine/test_regression.py", "-k", "share_of_the_budget"),
    ),
    "analyses_that_compute": Defence(
        "sums of a hospital that arithmetic holds",
        nothing("researcher.regression:_check_arithmetic"),
        (HOSPITALS, "-k", "information or turned_into"),
    ),
    "answer_classes": Defence("table of classes that a hospital's answers are read by", _answers_rebuilt, (HOSPITALS,)),
    "answer_signature": Defence("signature of a hospital's answers", _any_signer, (HOSPITALS,)),
    "answer_bounds": Defence("depth, number and length in a hospital's answers", _any_number, (HOSPITALS,)),
    "answer_arrays": Defence("size of unpacked arrays in a hospital's answers", _any_array, (HOSPITALS,)),
    "answer_shapes": Defence("shapes of what a hospital says", _any_shape, (HOSPITALS,)),
    "answer_size": Defence("size of a hospital's answer", _any_length, (HOSPITALS,)),
    "answer_deadline": Defence(
        "deadline of a whole answer",
        nothing("researcher.transport:_Watch._end"),
        (HOSPITALS, "-k", "dripping or going_on"),
    ),
    "answer_encoding": Defence(
        "refusal of packed answers", nothing("researcher.transport:_check_plain"), (HOSPITALS, "-k", "gzipped")
    ),
    "redirects_unread": Defence("redirects whose page is not read", _redirects_read, (HOSPITALS, "-k", "redirect")),
    "known_keys": Defence(
        "keys that a datasite showed first", nothing("researcher.known_datasites:KnownDatasites.check"), (HOSPITALS,)
    ),
    "study_keys": Defence("keys that a study remembers", instead("researcher.code_requests:KEYS", ()), (HOSPITALS,)),
    "asked": Defence("certificate against the question", nothing("researcher.releases:check_asked"), (HOSPITALS,)),
    "quoted_plan": Defence("quoted plan against the researcher's own", _any_plan, (HOSPITALS,)),
    "flower_settings": Defence(
        "settings of a Flower server", nothing("researcher.flower_client:check_settings"), (FLOWER,)
    ),
    "flower_tensors": Defence("shapes before numbers, of a Flower server", _any_tensor, (FLOWER, "-k", "no_model")),
    "flower_rehearsal": Defence(
        "rehearsal of what a ServerApp starts",
        nothing("researcher.flower_app:rehearse"),
        (FLOWER_APP, "-k", "charged"),
    ),
    "flower_messages": Defence(
        "messages of a ServerApp",
        nothing("researcher.flower_app:AppGrid._check"),
        (FLOWER_APP, "-k", "loop or weights"),
    ),
    "flower_rounds": Defence(
        "one round for the same weights",
        instead(
            "researcher.flower_client:HospitalClient._round_of",
            lambda client, sent: client.asked.datasite.calls.count("run"),
        ),
        (FLOWER, "-k", "replayed"),
    ),
    "compressed_releases": Defence(
        "grids of compressed releases", nothing("researcher.releases:check_compressed"), (HOSPITALS, "-k", "doubled")
    ),
    "finite_releases": Defence("finite releases", nothing("researcher.releases:check_finite"), (HOSPITALS,)),
    "visible": Defence(
        "hidden characters by name",
        instead("policies.text:_is_hidden", lambda _: False),
        (HOSPITALS, "tests/policies/test_text.py", "tests/datasites/cli/test_display.py"),
    ),
    "progress_text": Defence(
        "no markup in the table of progress", instead("researcher.progress:_text", lambda words: words), (HOSPITALS,)
    ),
    "owner_text": Defence(
        "no markup on the owner's terminal",
        instead("datasites.cli.shell:_as_text", lambda value: value),
        ("tests/datasites/cli/test_display.py",),
    ),
    "submitted_text": Defence(
        "purposes in plain text",
        nothing("datasites.review.submissions:check_visible"),
        ("tests/datasites/review/test_words.py",),
    ),
    "comment_text": Defence(
        "comments in plain text",
        nothing("datasites.review.decisions:check_visible"),
        ("tests/datasites/review/test_words.py",),
    ),
    "reader_limits": Defence(
        "memory and time of readers of foreign formats", nothing("resource:setrlimit"), (WORKBOOKS, "-k", "all_memory")
    ),
    "reader_entities": Defence("no entities of XML in a workbook", _entities_read, (WORKBOOKS, "-k", "entities")),
    "reader_size": Defence(
        "what a workbook may unpack to",
        nothing("datasites.vault.workbooks:_check_parts"),
        (WORKBOOKS, "-k", "unpacks"),
    ),
    "reader_formulas": Defence(
        "formulas refused, whose values may be old",
        instead("datasites.vault.workbooks:_is_formula", lambda _: False),
        (WORKBOOKS, "-k", "formulas"),
    ),
    "tensor_names": Defence(
        "names of files that lead out of their folder",
        nothing("datasites.vault.tensor_sources:check_inside"),
        (TENSORS, "-k", "leads_out"),
    ),
    "tensor_links": Defence("links in a folder of images", instead("os:O_NOFOLLOW", 0), (TENSORS, "-k", "leads_out")),
    "tensor_pixels": Defence(
        "pictures that say they are enormous",
        nothing("datasites.vault.tensor_values:_check_pixels"),
        (TENSORS, "-k", "enormous"),
    ),
    "tensor_values": Defence(
        "NaN, infinity and values outside the bounds of a tensor",
        nothing("datasites.vault.tensor_values:check_values"),
        (TENSORS, "-k", "every_fault or nan_never"),
    ),
    "tensor_archive": Defence(
        "what an archive of arrays may unpack to",
        instead("datasites.vault.tensor_sources:TensorSources._unpack", _unpack_all),
        (TENSORS, "-k", "archive"),
    ),
    "tensor_voxels": Defence(
        "volumes that say they are enormous",
        _endless_volumes,
        (VOLUMES, "-k", "too_much"),
    ),
    "tensor_samples": Defence(
        "headers of signals that name a file elsewhere",
        nothing("datasites.vault.tensor_sources:check_inside", "datasites.vault.signals:check_beside"),
        (SIGNALS, "-k", "leads_to_no_file"),
    ),
    "tensor_finite": Defence(
        "finite inputs whatever is stored",
        instead("policies.schema.tensors:Tensor.scaled", _scaled_anyhow),
        ("tests/policies/schema/test_tensors.py", "-k", "inside_public_bounds"),
    ),
    "shared_noise_bound": Defence(
        "an owner's word for shared noise that is of one request alone",
        nothing("datasites.review.decisions:check_acceptance"),
        (SHARED_NOISE, "-k", "counts_for_no_other"),
    ),
    "shared_noise_cap": Defence(
        "the policy's bound on what such a word may leave uncharged",
        instead("datasites.review.decisions:shared_outcome", lambda *_, **__: None),
        (SHARED_NOISE, "-k", "allows_no_word"),
    ),
    "shared_noise_part": Defence(
        "a hospital's part of the noise that hospitals share",
        instead("datasites.engine.shared_parts:laplace_part", lambda *_: 0),
        ("tests/datasites/engine/test_shared_parts.py",),
    ),
    "sum_answered_once": Defence(
        "one answer to each step of a secure sum",
        nothing("policies.secure_sums.party:answered_before"),
        (SUMS, "-k", "answered_to_one"),
    ),
    "sum_signed_keys": Defence(
        "round keys signed for request, round, roster and weights",
        nothing("policies.secure_sums.messages:check_announced"),
        (SUMS,),
    ),
    "sum_book": Defence(
        "own keys and enough others in a round's book", nothing("policies.secure_sums.party:check_book"), (SUMS,)
    ),
    "sum_roster": Defence(
        "rosters that name this datasite and its published size",
        nothing("datasites.review.planning:check_roster", "datasites.review.secure_rounds:check_roster"),
        (SECURE_ROUNDS, "-k", "names_this_datasite"),
    ),
    "sum_scale": Defence(
        "sums of numbers that mean the same at every hospital",
        nothing("datasites.review.planning:check_scale", "datasites.review.secure_rounds:check_scale"),
        (SECURE_ROUNDS, "-k", "in_no_sum or another_grid"),
    ),
    "sum_forgotten": Defence(
        "no round secrets after a restored ledger is accepted",
        nothing("datasites.vault.round_secrets:RoundSecrets.forget_all"),
        ("tests/datasites/operations/test_backup.py", "-k", "round_secrets"),
    ),
    "sum_ready": Defence(
        "shares exchanged for these weights before a row is read",
        nothing("datasites.review.secure_rounds:SecureRounds.check_ready"),
        (SECURE_ROUNDS, "-k", "nothing_runs_before"),
    ),
    "sum_masks": Defence(
        "masks on what leaves in sums alone",
        instead("datasites.review.secure_rounds:SecureRounds.masked", _unmasked),
        (SECURE_ROUNDS, "-k", "is_masked or leave_masked"),
    ),
    "sum_opened_again": Defence(
        "sums of a loaded result that are what masked releases come to",
        nothing("researcher.results:check_summed", "researcher.opened_sums:check_summed"),
        (OPENED, "-k", "changed"),
    ),
    "sum_of_weights_again": Defence(
        "weights of a loaded result that are the mean of what masked releases come to",
        nothing("researcher.results:check_aggregate"),
        (OPENED, "-k", "changed_weights or changed_last or changed_beginning"),
    ),
    "sum_of_regressions": Defence(
        "opened sums that hospitals' regressions can come to",
        nothing("researcher.regression:check_sums"),
        ("tests/researcher/test_regression_in_sums.py", "-k", "wrong_numbers"),
    ),
    "sum_noise": Defence(
        "the whole noise of a regression that leaves in a sum",
        _regression_noise_left_to_masks,
        ("tests/datasites/engine/test_regression.py", "-k", "leaves_in_a_sum"),
    ),
    "sum_survivors": Defence(
        "signatures of enough survivors", nothing("policies.secure_sums.messages:check_survivors"), (SUMS,)
    ),
    "sum_threshold": Defence(
        "no sum of fewer than the threshold", nothing("policies.secure_sums.party:check_enough"), (SUMS,)
    ),
    "device_budget": Defence(
        "a device's budget",
        instead("researcher.devices.device:Device._affordable", lambda *_: 0),
        (DEVICES.format("device"), "-k", "budget"),
    ),
    "device_roster": Defence(
        "a device charges a roster that its person did not accept as if all others worked together",
        instead("policies.privacy.device_reports:DeviceQuestion.epsilon_if", lambda question, _: question.epsilon),
        (DEVICES.format("device"), "-k", "accept"),
    ),
    "device_kept": Defence(
        "a device keeps what it answered",
        instead("researcher.devices.ledger:_Rows.write", _kept_nowhere),
        (DEVICES.format("device"), "-k", "same_question or outlives"),
    ),
    "told_owner": Defence(
        "what publishing notices is the owner's alone",
        _anybody_reads_reports,
        ("tests/datasites/actions/test_publishing.py", "-k", "only_the_owner"),
    ),
    "sealed-once": Defence(
        "sealed calls are opened once",
        instead("datasites.door.sealed:SealedCalls._is_new", lambda *_: True),
        (RELAYS.format("relays"), "-k", "replayed"),
    ),
    "sealed-routes": Defence(
        "routes of sealed calls",
        instead("datasites.door.app:PYSYFT_ROUTES", Everything()),
        (RELAYS.format("relays"), "-k", "four_routes"),
    ),
    "sealed-lengths": Defence(
        "padding of sealed calls", instead("policies.wire.sealing:PADDING", 1), ("tests/policies/wire/test_sealing.py",)
    ),
    "sealed-answers": Defence(
        "seals of answers", _unsealed_answers, (RELAYS.format("relays"), "-k", "is_found or are_found")
    ),
    "statements-now": Defence(
        "statements for one nonce", _statements_of_all_times, (RELAYS.format("relays"), "-k", "old_statement")
    ),
    "statements-purpose": Defence(
        "statements for one purpose", _statements_for_everything, (RELAYS.format("streams"), "-k", "hospitals_place")
    ),
    "statements-key": Defence(
        "statements of the key whose words are known",
        _anybodys_statement,
        (RELAYS.format("relays"), "-k", "swaps_hospitals"),
    ),
    "coordinator-address": Defence(
        "statements for a coordinator's own address",
        instead("researcher.coordinator:Coordinator._is_ours", lambda *_: True),
        (RELAYS.format("streams"), "-k", "another_study"),
    ),
    "coordinator-token": Defence(
        "token of a coordinator", _any_token, (RELAYS.format("streams"), "-k", "no_call_through")
    ),
    "key-words": Defence(
        "words of a datasite's key",
        nothing("researcher.client:Datasite._check_words"),
        ("tests/e2e/test_dial_out.py", "-k", "other_words"),
    ),
}


# -- in the processes that go without ---------------------------------------------------------------------------------


def take_out(name: str) -> None:
    """Take a defence out of this process, and out of every Python program of ours that it starts."""
    DEFENCES[name].out()
    before = subprocess.Popen.__init__

    def started(self: Any, command: Any, *args: Any, **options: Any) -> None:
        if isinstance(command, list) and command[1:2] == ["-m"] and re.match(r"(datasites|tests)\b", str(command[2])):
            command = [command[0], "-m", "tests.attacks.without", "--run", name, *command[2:]]
        before(self, command, *args, **options)

    subprocess.Popen.__init__ = started  # type: ignore[method-assign]


def pytest_configure(config: Any) -> None:
    """As a plugin of pytest: go without what the environment names."""
    take_out(os.environ[VARIABLE])


class _Failures:
    def __init__(self) -> None:
        self.names: list[str] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.names.append(report.nodeid)


def _inside(name: str, report: Path, tests: list[str]) -> None:
    """Run tests without a defence, in this process, and write which failed."""
    import pytest

    os.environ[VARIABLE] = name
    failures = _Failures()
    options = ["-q", f"--maxfail={ENOUGH}", "-p", "no:cacheprovider", "-p", "tests.attacks.without"]
    code = pytest.main([*options, *tests], plugins=[failures])
    report.write_text(json.dumps({"failed": failures.names, "code": int(code)}))


# -- outside ----------------------------------------------------------------------------------------------------------


def failures_without(name: str) -> list[str]:
    """Tests that fail without a defence; empty where nothing noticed. Raises where tests could not be run."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "failed.json"
        command = [sys.executable, "-m", "tests.attacks.without", "--inside", name, str(report), *DEFENCES[name].tests]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900)
        if not report.exists():
            raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
        found = json.loads(report.read_text())
        if found["code"] not in (0, 1, 2):
            raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
        return list(found["failed"])


def _short(test: str) -> str:
    path, _, name = test.partition("::")
    return f"{Path(path).stem.removeprefix('test_')}: {name.removeprefix('test_')}"


def main() -> None:
    """Take out each in turn, with progress; print the table, and end with 1 where one is not missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks.without", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(DEFENCES))
    gaps, lines = [], ["| taken out | first test that fails |", "| --- | --- |"]
    chosen = parser.parse_args().names or list(DEFENCES)
    for number, name in enumerate(chosen, start=1):
        begin = time.monotonic()
        failed = failures_without(name)
        took = time.monotonic() - begin
        print(f"{number}/{len(chosen)} {name}: {len(failed)} failed, {took:.0f} s", file=sys.stderr, flush=True)
        gaps += [] if failed else [name]
        lines.append(f"| {DEFENCES[name].what} | {_short(failed[0]) if failed else '**none**'} |")
    print("\n".join(lines))
    if gaps:
        sys.exit(f"No test misses: {', '.join(gaps)}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        take_out(sys.argv[2])
        module, sys.argv = sys.argv[3], sys.argv[3:]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    elif sys.argv[1:2] == ["--inside"]:
        _inside(sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
    else:
        main()
