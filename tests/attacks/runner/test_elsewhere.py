"""Whoever stands between a datasite and the machine of its jobs, or beside them, gets no job, no row and no count.

TLS is real, on loopback; warm parents are functions, so that what reaches one can be seen.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasites.engine.matrix import in_groups
from datasites.jobs.elsewhere import PROTOCOL, Greeting, software
from datasites.jobs.frames import HEADER, LARGEST_JSON, receive_frame, send_frame
from datasites.jobs.machine import MOST_OF_ONE, MOST_STRANGERS
from datasites.jobs.pinned import CERTIFICATE, KEY, client_context, der_of, read_certificate, server_context
from datasites.jobs.rows import COUNTS, Layout, PublicTime
from datasites.vault.private_rows import PrivateRows
from policies.errors import Unavailable
from tests.machines import HELD, Pair, Wire, another, ready
from tests.open_tables import tables_open

MARK = 1234.56789  # of a patient
RECORDS = 500


def taking_rows(connection: socket.socket) -> None:
    """A job that takes its rows and answers with something of a public size."""
    taking_rows_in(connection)
    send_frame(connection, {"event": "done"}, b"tensors")


def taking_rows_in(connection: socket.socket) -> None:
    ready(connection)
    message, _, descriptor = receive_frame(connection, largest_payload=0, with_descriptor=True)
    assert descriptor is not None
    os.close(descriptor)
    taken.append(message["shape"][0])


taken: list[int] = []


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    taken.clear()
    made = Pair(tmp_path, taking_rows)
    yield made
    made.close()


@pytest.fixture
def wire(pair: Pair) -> Iterator[Callable[..., Wire]]:
    wires: list[Wire] = []

    def begin(*arguments: Any) -> Wire:
        wires.append(Wire(pair.port, *arguments))
        return wires[-1]

    yield begin
    for each in wires:
        each.close()


def table(records: int) -> PrivateRows:
    matrix = np.full((records, 5), MARK)
    matrix[:, 0], matrix[:, 1] = np.arange(records) + 1, np.arange(records) % 2
    return PrivateRows(in_groups(matrix, 1))


def a_round(pair: Pair, port: int | None = None, *, records: int = 40, seconds: float = 10, **options: Any) -> Any:
    with table(records) as rows:
        pool = pair.pool(pair.reached(port), records=RECORDS)
        return pool.run("runner", {"job": "train"}, b"weights", seconds=seconds, largest=100, rows=rows, **options)


def refused(pair: Pair, begin: Callable[[socket.socket], Any]) -> None:
    """Nothing that is begun so gets a greeting, and no job is begun."""
    with socket.create_connection(("127.0.0.1", pair.port), timeout=15) as raw, contextlib.suppress(OSError):
        assert begin(raw).recv(1) == b""
    assert pair.parent.connections == 0


def no_table_open() -> bool:
    """Whether the machine lets go of every table, a moment after its datasite's connection ended."""
    deadline = time.monotonic() + 10
    while tables_open() and time.monotonic() < deadline:
        time.sleep(0.02)
    return tables_open() == 0


# -- who is heard ------------------------------------------------------------------------------------------------------


def test_nobody_is_heard_without_a_certificate_that_was_pinned(pair: Pair, tmp_path: Path) -> None:
    machine = der_of(read_certificate(pair.machines_certificate))
    stranger = another(tmp_path).parent
    refused(pair, client_context(stranger, machine).wrap_socket)
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    nobody.check_hostname, nobody.verify_mode = False, ssl.CERT_NONE
    refused(pair, nobody.wrap_socket)
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # its own certificate back at it
    own.check_hostname, own.verify_mode = False, ssl.CERT_NONE
    own.load_cert_chain(pair.there / CERTIFICATE, pair.there / KEY)
    refused(pair, own.wrap_socket)
    assert any("shows no certificate that is trusted here" in said for said in pair.said)
    assert a_round(pair).done


def test_a_certificate_that_a_trusted_one_signed_is_not_trusted(pair: Pair, tmp_path: Path) -> None:
    """A datasite, or a thief of its key, vouches for nobody else."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.x509.oid import NameOID

    from datasites.jobs.pinned import BEGIN, END

    issuer = read_certificate(pair.own)
    signing = serialization.load_pem_private_key((pair.here / KEY).read_bytes(), password=None)
    assert isinstance(signing, Ed25519PrivateKey)
    key = Ed25519PrivateKey.generate()
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "another")]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(BEGIN)
        .not_valid_after(END)
        .sign(signing, None)
    )
    folder = tmp_path / "signed"
    folder.mkdir()
    pem = serialization.Encoding.PEM
    (folder / CERTIFICATE).write_bytes(made.public_bytes(pem) + issuer.public_bytes(pem))
    (folder / KEY).write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    refused(pair, client_context(folder, der_of(read_certificate(pair.machines_certificate))).wrap_socket)


def test_older_tls_and_no_tls_are_refused_by_both_sides(pair: Pair) -> None:
    older = client_context(pair.here, der_of(read_certificate(pair.machines_certificate)))
    older.minimum_version = ssl.TLSVersion.TLSv1_2
    older.maximum_version = ssl.TLSVersion.TLSv1_2
    refused(pair, older.wrap_socket)
    for plain in (b"GET / HTTP/1.1\r\n\r\n", HEADER.pack(20, 0) + b'{"kind": "runner"}  ', bytes(100)):

        def speak(raw: socket.socket, plain: bytes = plain) -> socket.socket:
            raw.sendall(plain)
            raw.recv(100)  # TLS's own word that it is none
            return raw

        refused(pair, speak)
    with socket.create_server(("127.0.0.1", 0)) as listener:  # what listens in the machine's place

        def answers() -> None:
            connection, _ = listener.accept()
            connection.sendall(PROTOCOL + HEADER.pack(2, 0) + b"{}")
            heard.append(connection.recv(1000))
            connection.close()

        import threading

        heard: list[bytes] = []
        thread = threading.Thread(target=answers)
        thread.start()
        with pytest.raises(Unavailable, match=r"speaks no TLS 1\.3"):
            pair.reached(listener.getsockname()[1]).connect(tries=(0.0,))
        thread.join()
    assert b"runner" not in heard[0]


def test_trust_ends_with_its_file_and_needs_no_restart(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    assert a_round(pair).done
    kept = pair.trusted.read_bytes()
    pair.trusted.unlink()
    with pytest.raises(Unavailable, match="is not running"):
        a_round(pair)
    assert pair.parent.connections == 1
    pair.trusted.write_bytes(kept)
    assert a_round(pair).done


def test_who_ends_tls_in_between_is_refused_by_both(pair: Pair, tmp_path: Path) -> None:
    """A man in the middle with a key of his own, who even knows both certificates."""
    import threading

    middle = another(tmp_path).parent
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        context = server_context(middle, [der_of(read_certificate(pair.own))])

        def between() -> None:
            raw, _ = listener.accept()
            with contextlib.suppress(OSError), context.wrap_socket(raw, server_side=True) as near:
                heard.append(near.recv(1000))
            raw.close()

        thread = threading.Thread(target=between)
        thread.start()
        with pytest.raises(Unavailable, match="another certificate than the one that is pinned here"):
            pair.reached(listener.getsockname()[1]).connect(tries=(0.0,))
        thread.join()
    refused(pair, client_context(middle, der_of(read_certificate(pair.machines_certificate))).wrap_socket)
    assert heard in ([], [b""])


def test_strangers_who_never_finish_keep_no_datasite_out(pair: Pair) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(2 * MOST_STRANGERS):
            held.enter_context(socket.create_connection(("127.0.0.1", pair.port), timeout=5))
        started = time.monotonic()
        assert a_round(pair).done
        assert time.monotonic() - started < 5


def test_one_datasite_holds_a_bounded_number_of_connections(pair: Pair) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(MOST_OF_ONE):
            held.enter_context(pair.reached().connect()[0])
        with pytest.raises(Unavailable):
            pair.reached().connect(tries=(0.0,))
    deadline = time.monotonic() + 10
    while pair.machine._known.total() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert a_round(pair).done


# -- what passes on the wire -------------------------------------------------------------------------------------------


def test_a_wire_carries_no_row_and_as_many_bytes_whatever_the_table_has(pair: Pair, wire: Callable[..., Wire]) -> None:
    counted = []
    for records in (0, 1, 40, 499, 500):
        between = wire()
        assert a_round(pair, between.port, records=records).done
        between.close()
        counted.append((len(between.there), len(between.back)))
        assert np.float64(MARK).tobytes() not in between.there
        assert b"weights" not in between.there
    assert taken == [0, 1, 40, 499, 500]
    assert len({there for there, _ in counted}) == 1, counted
    assert len({back for _, back in counted}) == 1, counted
    assert counted[0][0] > Layout(5).size(RECORDS)
    # A dry run stands for a round: it sends as many, but for its name.
    dry = wire()
    with contextlib.suppress(Unavailable):
        pair.pool(pair.reached(dry.port), records=RECORDS).run(
            "runner", {"job": "rehearse"}, b"weights", seconds=1, layout=Layout(5)
        )
    assert len(dry.there) > Layout(5).size(RECORDS)


def test_a_bit_changed_on_the_wire_ends_the_job_wherever_it_is(pair: Pair, wire: Callable[..., Wire]) -> None:
    whole = wire()
    assert a_round(pair, whole.port).done
    length = len(whole.there)
    released = 0
    taken.clear()
    for place in [*range(5, length, length // 6), length - 3]:

        def change(piece: bytes, before: int, place: int = place) -> bytes:
            if not before <= place < before + len(piece):
                return piece
            changed = bytearray(piece)
            changed[place - before] ^= 1
            return bytes(changed)

        with contextlib.suppress(Unavailable):
            a_round(pair, wire(change).port)
            released += 1
    assert released == 0
    assert taken == []
    assert no_table_open()


def test_a_wire_that_is_cut_anywhere_hands_no_job_half_a_table(pair: Pair, wire: Callable[..., Wire]) -> None:
    whole = wire()
    assert a_round(pair, whole.port).done
    length = len(whole.there)
    taken.clear()
    for place in (length // 10, length // 2, length - 100):

        def cut(piece: bytes, before: int, place: int = place) -> bytes:
            return piece[: max(0, place - before)]

        with pytest.raises(Unavailable):
            a_round(pair, wire(cut).port)
    assert taken == []


def test_what_was_recorded_opens_nothing_when_it_is_sent_again(pair: Pair, wire: Callable[..., Wire]) -> None:
    recorded = wire()
    assert a_round(pair, recorded.port).done
    recorded.close()
    for pieces in ([bytes(recorded.there)], [bytes(recorded.there[at : at + 200]) for at in range(0, 3000, 200)]):
        with socket.create_connection(("127.0.0.1", pair.port), timeout=15) as again, contextlib.suppress(OSError):
            for piece in pieces:
                again.sendall(piece)
            while again.recv(1 << 16):
                pass
    time.sleep(0.2)
    assert pair.parent.connections == 1
    assert taken == [40]


def test_no_session_is_resumed(pair: Pair) -> None:
    connection, _ = pair.reached().connect()
    with connection:
        assert connection.version() == "TLSv1.3"
        assert not connection.session_reused
        send_frame(connection, {"job": "train"}, b"weights")
        receive_frame(connection, largest_payload=0)
        assert connection.session is None or not connection.session.has_ticket


@pytest.mark.parametrize(
    ("takes", "dies"), [(0.0, False), (0.5, False), (0.5, True), (1.3, False)], ids=["at-once", "later", "dies", "late"]
)
def test_a_wire_tells_of_a_jobs_end_at_public_times_alone(
    pair: Pair, wire: Callable[..., Wire], takes: float, dies: bool
) -> None:
    def play(connection: socket.socket) -> None:
        taking_rows_in(connection)
        time.sleep(takes)
        if dies:
            connection.shutdown(socket.SHUT_RDWR)
        else:
            send_frame(connection, {"event": "done"})

    pair.parent.play = play
    between = wire()
    began = time.monotonic()
    with contextlib.suppress(Unavailable):
        a_round(pair, between.port, shown=PublicTime(began + 1.0, 1.0))
    between.close()
    last = between.came_back[-1] - began
    due = 2.0 if takes > 1 else 1.0
    assert due - 0.01 <= last < due + 0.5


def test_what_a_job_printed_does_not_show_by_its_length(pair: Pair, wire: Callable[..., Wire]) -> None:
    lengths = set()
    for output in ("", "x", "row 17 is 1234.5678 " * 1000):

        def play(connection: socket.socket, output: str = output) -> None:
            taking_rows_in(connection)
            send_frame(connection, {"event": "failed", "output": output})

        pair.parent.play = play
        between = wire()
        assert a_round(pair, between.port).output == output
        between.close()
        lengths.add(len(between.back))
    assert len(lengths) == 1


# -- a trusted datasite that was taken over: bounded, and never another's memory ---------------------------------------


def spoken(pair: Pair, asked: Any) -> dict[str, Any]:
    """What the machine answers to what a datasite asks for."""
    context = client_context(pair.here, der_of(read_certificate(pair.machines_certificate)))
    with socket.create_connection(("127.0.0.1", pair.port), timeout=15) as raw, context.wrap_socket(raw) as connection:
        assert connection.recv(1) == PROTOCOL
        receive_frame(connection, largest_payload=0)
        if isinstance(asked, bytes):
            connection.sendall(asked)
        else:
            send_frame(connection, asked)
        return receive_frame(connection, largest_payload=0)[0]


ASKED = {"kind": "runner", "rows": Layout(5).as_dict(), "records": 10, "zeros": False}


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "zygote"},
        {"kind": "../exporter"},
        {"kind": ["runner"]},
        {"kind": "exporter"},  # to which no row goes
        {"records": -1},
        {"records": 10**12},
        {"records": 10**8},  # 4 GB, of which this machine takes 64 MiB
        {"records": "10"},
        {"rows": {"columns": 10**5, "grouped": True, "tensors": [["t", "<f8", [10**5] * 9]]}},
        {"rows": 7},
        {"first": "nan", "every": "1"},
        {"first": "1", "every": "0"},
        {"first": "1e9", "every": "1"},
        {"first": [], "every": "1"},
    ],
)
def test_what_is_asked_for_outside_the_bounds_is_refused_and_nothing_is_begun(pair: Pair, change: Any) -> None:
    assert set(spoken(pair, ASKED | change)) == {"refused"}
    assert pair.parent.connections == 0
    assert spoken(pair, ASKED) == {"ready": True}


@pytest.mark.parametrize(
    "frame",
    [
        HEADER.pack(1 << 30, 0),
        HEADER.pack(2, 1) + b"{}x",
        HEADER.pack(3, 0) + b"[1]",
        HEADER.pack(4, 0) + b"\xff\xfe{}",
    ],
    ids=["long", "payload", "list", "bytes"],
)
def test_frames_that_are_none_end_the_connection(pair: Pair, frame: bytes) -> None:
    with pytest.raises(Unavailable):
        spoken(pair, frame)
    assert pair.parent.connections == 0
    assert a_round(pair).done


def test_a_job_longer_than_it_may_be_is_passed_to_nobody(pair: Pair) -> None:
    for header in (HEADER.pack(LARGEST_JSON + 1, 0), HEADER.pack(10, (256 << 20) + 1)):
        connection, _ = pair.reached().connect()
        with connection:
            connection.sendall(header + bytes(1000))
            with contextlib.suppress(OSError):
                assert connection.recv(1) == b""
    assert pair.parent.asked == []


@pytest.mark.parametrize("counts", [(11, 0, 0), (5, 4, 2), (2**64 - 1, 0, 0), (5, 2**63, 2**63)])
def test_a_stream_that_claims_more_rows_than_it_has_room_for_reaches_no_job(pair: Pair, counts: Any) -> None:
    layout = Layout(5)
    connection, _ = pair.reached().connect(layout, records=10)
    with connection:
        send_frame(connection, {"job": "train"})
        assert receive_frame(connection, largest_payload=0)[0]["protections"] == HELD
        with contextlib.suppress(OSError):
            connection.sendall(COUNTS.pack(*counts) + bytes(layout.size(10) - COUNTS.size))
            assert connection.recv(1) == b""
    assert taken == []
    assert no_table_open()


def test_who_speaks_out_of_turn_ends_the_job(pair: Pair) -> None:
    connection, _ = pair.reached().connect()
    with connection:
        send_frame(connection, {"job": "train"})
        receive_frame(connection, largest_payload=0)
        connection.sendall(b"x")
        with contextlib.suppress(OSError):
            assert connection.recv(1) == b""
    assert pair.parent.hung_up.wait(5)


# -- a machine that lies: inside the hospital's trust, and bounded all the same ----------------------------------------


@pytest.fixture
def lying(tmp_path: Path) -> Iterator[Callable[[bytes], Pair]]:
    """A machine with the right key that says anything."""
    import threading

    listeners: list[socket.socket] = []

    def begin(said: bytes) -> Any:
        folder = tmp_path / str(len(listeners))
        folder.mkdir()
        pair = Pair(folder)
        pair.close()
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        context = server_context(pair.there, [der_of(read_certificate(pair.own))])

        def serve() -> None:
            while True:
                try:
                    raw, _ = listener.accept()
                except OSError:
                    return
                with contextlib.suppress(OSError), context.wrap_socket(raw, server_side=True) as connection:
                    connection.sendall(said)
                    while connection.recv(1 << 16):
                        pass
                raw.close()

        threading.Thread(target=serve, daemon=True).start()
        pair.port = listener.getsockname()[1]
        return pair

    yield begin
    for each in listeners:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()


def frame(message: Any) -> bytes:
    body = json.dumps(message).encode()
    return HEADER.pack(len(body), 0) + body


GREETING = {"version": software(), "shares_user": False, "rows_bytes": 1 << 30}


@pytest.mark.parametrize(
    "said",
    [
        b"2",
        PROTOCOL + HEADER.pack(1 << 31, 0),
        PROTOCOL + HEADER.pack(2, 5) + b"{}12345",
        PROTOCOL + HEADER.pack(2, 0) + b"[]",
        PROTOCOL + frame({}),
        PROTOCOL + frame({**GREETING, "rows_bytes": "1"}),
        PROTOCOL + frame({**GREETING, "version": ["1"]}),
        PROTOCOL + frame({**GREETING, "shares_user": 1}),
        PROTOCOL + frame(GREETING) + frame({"refused": "\x1b[31m" + "x" * 5000}),
        PROTOCOL + frame(GREETING) + frame({"ready": 1}),
    ],
)
def test_a_machine_that_greets_with_anything_is_refused_in_short_plain_words(
    lying: Callable[[bytes], Pair], said: bytes
) -> None:
    with pytest.raises(Unavailable) as told:
        lying(said).reached().connect(tries=(0.0,))
    assert len(str(told.value)) < 600
    assert str(told.value).isprintable()


def test_a_machines_answer_has_the_bounds_of_a_job_here(lying: Callable[[bytes], Pair]) -> None:
    begun = PROTOCOL + frame(GREETING) + frame({"ready": True}) + frame({"event": "ready", "protections": HELD})
    for answer in (HEADER.pack(1 << 30, 0), HEADER.pack(2, 101) + b"{}" + bytes(101), HEADER.pack(2, 0)):
        with pytest.raises(Unavailable):
            a_round(lying(begun + answer), seconds=2)


def test_a_machine_that_claims_to_share_its_user_gives_up_nothing_else(lying: Callable[[bytes], Pair]) -> None:
    missing = {**HELD, "own_user": False, "no_network": False}
    begun = PROTOCOL + frame({**GREETING, "shares_user": True}) + frame({"ready": True})
    called: list[Any] = []
    with pytest.raises(Unavailable.__mro__[1], match="does not give no_network, own_user"):
        a_round(lying(begun + frame({"event": "ready", "protections": missing})), before_rows=called.append)
    assert called == []
    assert Greeting.from_dict(GREETING).shares_user is False
