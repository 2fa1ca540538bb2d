"""A job on another machine is sent what a job here is sent, waits as long, and its machine's errors say what to do."""

from __future__ import annotations

import fcntl
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasites.engine.matrix import GroupedRows, in_groups
from datasites.jobs import elsewhere, machine
from datasites.jobs.frames import receive_frame, send_frame
from datasites.jobs.pool import JobPool
from datasites.jobs.rows import SEALS, Entries, Layout
from datasites.vault.private_rows import PrivateRows
from datasites.vault.tensor_files import OpenTensor
from policies.errors import DatasiteError, InvalidRequest, Unavailable
from policies.schema.tensors import Tensor
from tests.machines import HELD, Pair, Parent, another, ready, trust
from tests.open_tables import tables_open

Begin = Callable[..., Pair]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    pairs: list[Pair] = []

    def made(*arguments: Any, **options: Any) -> Pair:
        folder = tmp_path / str(len(pairs))
        folder.mkdir()
        pairs.append(Pair(folder, *arguments, **options))
        return pairs[-1]

    yield made
    for pair in pairs:
        pair.close()


def table(records: int = 40) -> GroupedRows:
    draw = np.random.default_rng(3)
    matrix = draw.random((records, 5))
    matrix[:, 0] = draw.integers(1, 9, records)
    matrix[:, 1] = matrix[:, 0] > 6
    return in_groups(matrix, 1000)


def taking(seen: list[Any]) -> Callable[[socket.socket], None]:
    """A job that notes the rows which it is handed, as it could read them."""

    def play(connection: socket.socket) -> None:
        ready(connection)
        message, _, descriptor = receive_frame(connection, largest_payload=0, with_descriptor=True)
        assert descriptor is not None
        parts = [os.pread(descriptor, 1 << 20, 0)]
        descriptors = [descriptor]
        for tensor in message["tensors"]:
            _, _, other = receive_frame(connection, largest_payload=0, with_descriptor=True)
            assert other is not None
            begin = tensor.pop("begin")
            parts.append(os.pread(other, 1 << 20, begin))
            descriptors.append(other)
        assert fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) == SEALS
        for each in descriptors:
            os.close(each)
        seen.append((message, parts))
        send_frame(connection, {"event": "done", "seconds": 1.5}, b"release")

    return play


def image(tmp_path: Path, records: int) -> OpenTensor:
    """A tensor of small images in a file, as a published one lies there."""
    declared = Tensor(name="scan", shape=(2, 3), dtype="uint8")
    path = tmp_path / "0.npy"
    np.save(path, np.arange(records * 6, dtype=np.uint8).reshape(records, 2, 3))
    size = path.stat().st_size
    return OpenTensor(declared, os.open(path, os.O_RDONLY), records, size - records * 6)


def test_a_job_elsewhere_is_sent_what_a_job_here_is_sent(begin: Begin, tmp_path: Path) -> None:
    seen: list[Any] = []
    here = Parent(tmp_path / "h.sock", taking(seen))
    there = begin(taking(seen))
    job = {"job": "train", "plan": {"α": [1, 2.5]}}
    answers, same = [], table()
    for pool in (JobPool({"runner": here.path}, start_parents=False), there.pool()):
        with PrivateRows(same, (image(tmp_path, 40),)) as rows:
            answers.append(pool.run("runner", job, b"weights", seconds=9, largest=100, rows=rows))
    here.close()
    assert answers[0] == answers[1]
    assert (answers[1].payload, answers[1].message["seconds"], answers[1].protections) == (b"release", 1.5, HELD)
    assert seen[0] == seen[1]
    assert seen[0][0]["patients"][0] > 0 < seen[0][0]["patients"][1]
    (asked_here,), (asked_there,) = here.asked, there.parent.asked
    bounds = [asked[0].pop("files") for asked in (asked_here, asked_there)]
    assert asked_here == asked_there
    assert bounds[0] < bounds[1]  # of what this table has; of what is sent, which tells nothing of it
    there.close()
    assert tables_open() == 0


def test_a_tensor_that_no_job_reads_is_not_sent(begin: Begin, tmp_path: Path) -> None:
    seen: list[Any] = []
    pair = begin(taking(seen))
    with PrivateRows(table(), (image(tmp_path, 40),)) as rows:
        pair.pool().run("runner", {"job": "train"}, seconds=9, rows=rows, layout=Layout(5))
    assert seen[0][0]["tensors"] == []
    assert Layout(5).size(1000) < Layout(5, tensors=(Entries("scan", "|u1", (2, 3)),)).size(1000)


@pytest.mark.parametrize("rows", [np.zeros((0, 3)), np.ones((4, 3))], ids=["none", "ungrouped"])
def test_rows_without_groups_and_tables_of_no_row_arrive(begin: Begin, rows: Any) -> None:
    seen: list[Any] = []
    pair = begin(taking(seen))
    with PrivateRows(rows) as private:
        assert pair.pool().run("runner", {"job": "statistics"}, seconds=9, largest=100, rows=private).done
    assert (seen[0][0]["shape"], seen[0][0]["patients"]) == ([len(rows), 3], [])
    assert seen[0][1][0] == rows.tobytes()


def test_rows_follow_what_must_come_before_them(begin: Begin) -> None:
    seen: list[Any] = []
    pair = begin(taking(seen))
    order: list[Any] = []
    with PrivateRows(table()) as rows:
        pair.pool().run(
            "runner", {"job": "train"}, seconds=9, largest=100, rows=rows, before_rows=lambda _: order.extend(seen)
        )
        assert (order, len(seen)) == ([], 1)

        def refuses(_: dict[str, bool]) -> None:
            raise Unavailable("The ledger is locked.")

        with pytest.raises(Unavailable, match="ledger is locked"):
            pair.pool().run("runner", {"job": "train"}, seconds=9, rows=rows, before_rows=refuses)
    assert pair.parent.hung_up.wait(5)
    assert len(seen) == 1


def test_a_protection_that_is_missing_there_ends_the_job_before_rows(begin: Begin) -> None:
    def play(connection: socket.socket) -> None:
        send_frame(connection, {"event": "ready", "protections": {**HELD, "no_network": False}})

    pair = begin(play)
    called: list[Any] = []
    with PrivateRows(table()) as rows, pytest.raises(DatasiteError, match="does not give no_network"):
        pair.pool().run("runner", {"job": "train"}, seconds=9, rows=rows, before_rows=called.append)
    assert called == []


def test_what_stands_for_rows_is_sent_before_the_job_and_kept_nowhere(begin: Begin) -> None:
    pair = begin()
    answer = pair.pool().run("runner", {"job": "rehearse"}, seconds=9, largest=100, layout=Layout(5))
    assert answer.done
    assert pair.parent.asked[0][0]["job"] == "rehearse"
    assert tables_open() == 0


def test_a_stop_reaches_a_job_elsewhere(begin: Begin) -> None:
    pair = begin(ready)
    stopped = threading.Event()
    threading.Timer(0.3, stopped.set).start()
    started = time.monotonic()
    with PrivateRows(table()) as rows, pytest.raises(Unavailable, match="stopped by the owner"):
        pair.pool().run("runner", {"job": "train"}, seconds=60, rows=rows, stop=stopped.is_set)
    assert time.monotonic() - started < 3
    assert pair.parent.hung_up.wait(5)


def test_a_deadline_ends_a_job_elsewhere(begin: Begin) -> None:
    pair = begin(ready)
    with pytest.raises(Unavailable, match="longer than its deadline"):
        pair.pool().run("runner", {"job": "try"}, seconds=0.7)
    assert pair.parent.hung_up.wait(5)


def test_a_job_ends_with_its_datasites_connection(begin: Begin) -> None:
    pair = begin(ready)
    connection, _ = pair.reached().connect()
    send_frame(connection, {"job": "train"})
    receive_frame(connection, largest_payload=0)
    connection.close()
    assert pair.parent.hung_up.wait(5)


def test_a_table_of_more_records_than_are_sent_is_refused_before_anything_is(begin: Begin) -> None:
    pair = begin()
    called: list[Any] = []
    with PrivateRows(table()) as rows, pytest.raises(Unavailable, match="more than runner_records=39"):
        pair.pool(records=39).run("runner", {"job": "train"}, seconds=9, rows=rows, before_rows=called.append)
    assert (called, pair.parent.connections) == ([], 0)


# -- errors -----------------------------------------------------------------------------------------------------------


def why_not(machine: elsewhere.JobMachine, **options: Any) -> str:
    with pytest.raises(Unavailable) as told:
        machine.connect(tries=(0.0,), **options)
    assert machine.address in str(told.value)
    return str(told.value)


def test_errors_name_the_address_the_cause_and_what_to_do(begin: Begin, tmp_path: Path) -> None:
    pair = begin(rows_bytes=1000)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    assert "does not answer (Connection refused). Start `datasite jobs serve` there" in why_not(pair.reached(free))
    assert "mend runner_address in settings.toml" in why_not(pair.reached(free))
    pinned = tmp_path / "other.pem"
    trust(another(tmp_path), pinned)
    assert "shows another certificate than the one that is pinned" in why_not(pair.reached(pinned=pinned))
    assert "Run `datasite jobs trust` there" in why_not(pair.reached(own=tmp_path / "another"))
    said = why_not(pair.reached(), layout=Layout(5), records=1000)
    assert "sent as 44,032 bytes and it takes 1,000. Lower runner_records" in said  # 24 + 8·5·1000 + 4·1002
    with pytest.raises(DatasiteError, match="cannot be read: No such file"):
        pair.reached(pinned=tmp_path / "missing.pem").connect()
    with pytest.raises(DatasiteError, match=r"holds no own\.pem with its own\.key"):
        pair.reached(own=tmp_path).connect()


def test_another_version_is_refused_with_both_named(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = begin()
    monkeypatch.setattr(machine, "software", lambda: "9.9.9")
    assert "it has version 9.9.9 and this datasite " in why_not(pair.reached())


def test_whoever_asks_for_a_job_reads_no_address_and_the_log_has_it(
    begin: Begin, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elsewhere, "TRIES", (0.0,))
    pair = begin()
    pair.close()
    with pytest.raises(Unavailable, match="The runner of this datasite is not running") as told:
        pair.pool().run("runner", {"job": "probe"}, seconds=3)
    assert str(pair.port) not in str(told.value)
    assert f"127.0.0.1:{pair.port} cannot be used: it does not answer" in caplog.text


def test_a_start_waits_for_a_machine_that_does_not_answer_yet_and_for_no_other_reason(begin: Begin) -> None:
    pair = begin()
    pool = pair.pool()
    pool.kinds_here = ()
    pool.start()
    pair.trusted.unlink()
    started = time.monotonic()
    with pytest.raises(Unavailable, match="datasite jobs trust"):
        pool.start()
    assert time.monotonic() - started < 5
    pair.close()
    pool.start_seconds = 0.5
    with pytest.raises(Unavailable, match="does not answer"):
        pool.start()


def test_a_look_says_whether_a_machine_can_be_used(begin: Begin) -> None:
    pair = begin()
    seen = pair.reached().look()
    assert (seen["reason"], seen["version"]) == ("", elsewhere.software())
    assert 0 < seen["seconds"] < 5
    pair.close()
    assert "does not answer" in pair.reached().look()["reason"]


def test_a_machine_that_was_started_again_is_reached_again(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = begin()
    pool = pair.pool()
    assert pool.run("runner", {"job": "probe"}, seconds=9, largest=100).done
    pair.machine.stop()

    def again() -> None:
        with socket.create_server(("127.0.0.1", pair.port), backlog=8) as listener:
            second = machine.Machine(pair.there, pair._connect, listener, rows_bytes=1000)
            threading.Timer(3, second.stop).start()
            second.serve()

    later = threading.Timer(0.6, again)
    later.start()
    assert pool.run("runner", {"job": "probe"}, seconds=9, largest=100).done
    later.join()


# -- certificates -----------------------------------------------------------------------------------------------------


def test_a_certificate_is_kept_only_where_its_words_were_typed(tmp_path: Path) -> None:
    from datasites.jobs.pinned import keep, key_words, make_own, read_certificate

    first, second = make_own(tmp_path / "a"), make_own(tmp_path / "b")
    words = key_words(read_certificate(first))
    target = tmp_path / "kept.pem"
    with pytest.raises(DatasiteError, match="another key than the one whose words were typed"):
        keep(second, words, target)
    with pytest.raises(InvalidRequest, match="'zebra' is no word of a key"):
        keep(first, "zebra", target)
    (tmp_path / "text.pem").write_text("nothing")
    with pytest.raises(DatasiteError, match="holds no certificate"):
        keep(tmp_path / "text.pem", words, target)
    assert not target.exists()
    keep(first, words.upper(), target)
    assert read_certificate(target) == read_certificate(first)
    assert make_own(tmp_path / "a") == first
    assert key_words(read_certificate(first)) == words  # made once
    assert (tmp_path / "a" / "own.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "a" / "own.key").unlink()
    with pytest.raises(DatasiteError, match=r"only one of own\.key and own\.pem"):
        make_own(tmp_path / "a")


def test_announced_layouts_that_no_table_has_are_refused() -> None:
    sound = Layout(5, tensors=(Entries("scan", "<f4", (3, 4)),)).as_dict()
    assert Layout.from_dict(sound).as_dict() == sound
    for change in (
        {"columns": 0},
        {"columns": -1},
        {"columns": True},
        {"columns": 1e3},
        {"columns": 10**9},
        {"grouped": 1},
        {"tensors": [["scan", "<f4", [0]]]},
        {"tensors": [["scan", "O", [3]]]},
        {"tensors": [["scan", ["<f4"], [3]]]},
        {"tensors": [[7, "<f4", [3]]]},
        {"tensors": [["scan", "<f4", "34"]]},
        {"tensors": [["scan", "<f4"]]},
        {"tensors": [["scan", "<f4", [3]]] * 65},
        {"tensors": 7},
    ):
        with pytest.raises(Unavailable):
            Layout.from_dict({**sound, **change})
    nothing: tuple[Any, ...] = (None, [], "rows", 7)
    for value in nothing:
        with pytest.raises(Unavailable):
            Layout.from_dict(value)
