"""Collect releases of approved requests: from all hospitals in parallel, each with a deadline, none asked twice.

A release that this study keeps is not asked for again; one that a datasite already settled comes back at no cost.
"""

from __future__ import annotations

import functools
import json
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from policies.errors import CertificateRefused, DatasiteError, InvalidRequest, Unavailable, WeightsRefused, WrongStatus
from policies.privacy.mechanisms import check_range
from policies.release import certificates
from policies.release.compression import DOUBLINGS, check_compressed
from policies.release.tensors import digest, to_bytes
from policies.source.statuses import RunStatus
from researcher.connections import Connection
from researcher.model_parts import send
from researcher.progress import Progress
from researcher.state import Release, StudyState, Tensors
from researcher.traffic import Traffic, counting
from researcher.transport import ANSWER_SECONDS, within

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0  # seconds between two looks at a release whose time a hospital cannot tell yet
SHORTEST_PAUSE = 0.02  # seconds between two looks, whatever a hospital says
WORTH_SAYING = 3.0  # seconds that a round takes from which on its user is told
GRACE = 20.0  # seconds that a datasite may be away, as while it starts again, before it is left out
DEADLINE = 600.0
LONGEST = 30 * 86_400.0  # that a deadline may be
VOID_RUNS = 3
CUT_OFF = "It had begun round {round}, and was cut off. "
_ENDED = {
    True: "Round {round} at {hospital} ends before it reads data, at no cost. Its owner can see why.",
    False: "Round {round} at {hospital} failed. Its owner can see why; the charge stays, and asking again costs again.",
}


class StillRunning(Unavailable):
    """A hospital has begun a round, and nobody waits for it any longer: its release is there later, at no cost."""


class CutOff(StillRunning):
    """A hospital had begun a round when it was reached last: what has become of that, it knows when it is back."""


class Closing:
    """When a round closes: as soon as so many hospitals have answered."""

    def __init__(self, answers: int) -> None:
        self._wanted = answers
        self._lock, self._closed = threading.Lock(), threading.Event()

    def answered(self) -> None:
        """One more has."""
        with self._lock:
            self._wanted -= 1
            if self._wanted <= 0:
                self._closed.set()

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until the round closes; whether it has."""
        return self._closed.wait(seconds)


@dataclass(frozen=True)
class Asked:
    """Where a hospital is asked, and for what.

    Args:
      code: its code request; `asset` of the dataset version.
      public_key: of its certificates, as it was when the request was submitted.
      facts: what a certificate must say, by field, as they were known at submission (`researcher.checks.plan_facts`).
      constants: public weights that the request names.
    """

    hospital: str
    datasite: Connection
    code: str
    asset: str
    public_key: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    constants: Tensors = field(default_factory=dict)


@dataclass
class Answers:
    """Releases by hospital, how long each took in seconds and bytes, and why the others are missing.

    `mean` is that of releases which can be read in their sum alone, else None. `running` are those of the missing that
    have begun, `away` those that were not reached last: a hospital can be both.
    """

    releases: dict[str, Release] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    traffic: dict[str, Traffic] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    away: set[str] = field(default_factory=set)
    mean: Tensors | None = None


def together(parts: Iterable[Answers]) -> Answers:
    """The answers of several questions, each of other hospitals."""
    answers = Answers()
    for part in parts:
        answers.releases |= part.releases
        answers.seconds |= part.seconds
        answers.traffic |= part.traffic
        answers.missing |= part.missing
        answers.running |= part.running
        answers.away |= part.away
    return answers


def check_patience(**seconds: float) -> None:
    """Raise `InvalidRequest`, naming value and bounds, unless all are numbers of seconds; a deadline above 0."""
    for name, value in seconds.items():
        try:
            check_range(name, value, 0, LONGEST, open_low=name == "deadline")
        except InvalidRequest as error:
            raise InvalidRequest(f"{error} Give seconds.") from None


def ask_everyone(
    asked: Mapping[str, Asked],
    role: str,
    round: int,
    weights: Tensors | None,
    *,
    state: StudyState,
    progress: Progress,
    what: str,
    deadline: float = DEADLINE,
    grace: float = GRACE,
    half: bool = False,
    closing: Closing | None = None,
) -> Answers:
    """Ask every hospital in `asked` for round `round` of `role`, in threads, and keep each release as it arrives.

    Args:
      half: whether float32 `weights` travel as float16, which holds them exactly.
      closing: when the round closes before all have answered; never where there is none.
    """
    answers, sent = Answers(), digest(weights) if weights is not None else ""

    def timed(one: Asked) -> None:
        started, release = time.monotonic(), state.release(role, one.hospital, round, sent)
        if release is None:
            progress.hospital(what, one.hospital, "asked")
            try:
                tell = functools.partial(progress.hospital, what, one.hospital)
                with counting() as traffic:
                    answers.traffic[one.hospital] = traffic
                    tensors, certificate = ask_release(
                        one, weights, round, deadline=deadline, grace=grace, tell=tell, half=half, closing=closing
                    )
            except DatasiteError as error:
                if isinstance(error, StillRunning):
                    answers.running.add(one.hospital)
                if isinstance(error, Unavailable) and (
                    isinstance(error, CutOff) or not isinstance(error, StillRunning)
                ):
                    answers.away.add(one.hospital)
                answers.missing[one.hospital] = error.public_message
                progress.hospital(what, one.hospital, f"left out. {error.public_message}")
                return
            release = Release(one.hospital, role, round, tensors, certificate, sent)
            state.keep(release)  # where it cannot be kept, the study stops: a hospital is not left out for that
        answers.releases[one.hospital] = release
        if closing is not None:
            closing.answered()
        answers.seconds[one.hospital] = time.monotonic() - started
        carried = f", {answers.traffic[one.hospital]}" if one.hospital in answers.traffic else ""
        progress.hospital(what, one.hospital, f"released in {answers.seconds[one.hospital]:.1f} s{carried}")

    if asked:
        with ThreadPoolExecutor(max_workers=min(64, len(asked))) as pool:
            list(pool.map(timed, asked.values()))
    return answers


def ask_release(
    asked: Asked,
    weights: Tensors | None,
    round: int,
    *,
    deadline: float = DEADLINE,
    grace: float = GRACE,
    tell: Callable[[str], None] = lambda state: None,
    half: bool = False,
    closing: Closing | None = None,
) -> tuple[Tensors, str]:
    """Ask one hospital and look again when it says that it shows: the tensors and the certificate, which was verified.

    Args:
      tell: hears how long it takes, where that is long enough to be said.
      half, closing: as in `ask_everyone`.

    Raises:
      Unavailable: it was away for `grace` seconds, or still away when the round closed or its deadline came.
      StillRunning: the round closed, or `deadline` seconds were over, and it runs; `CutOff` where it ran and is away.
      WrongStatus: the run failed there, which only its owner can explain.
      PermissionRefused: it refused.
      CertificateRefused: the certificate does not belong to this release, datasite and question.
    """
    started, away_since, pause, voids, given, begun = time.monotonic(), None, FIRST_PAUSE, 0, False, False

    silence = ANSWER_SECONDS if closing is None else grace  # who waits for everybody waits for a slow one too

    def unanswered(why: str) -> Unavailable:
        if away_since is None:
            return StillRunning(why)
        return CutOff(why) if begun else Unavailable(why)

    carried = {name: value.astype(np.float16) for name, value in weights.items()} if weights and half else weights
    while True:
        now = time.monotonic()
        try:
            with within(deadline - (now - started), silence=silence):
                if asked.constants and away_since is None and not given:
                    send(asked.datasite, asked.code, asked.constants)
                    given = True
                answer = asked.datasite.run(asked.code, asked.asset, carried, round)
            away_since, begun = None, answer["status"] == RunStatus.RUNNING
        except Unavailable as error:
            away_since = away_since or now
            if time.monotonic() - away_since + pause > grace:
                raise unanswered(f"{CUT_OFF.format(round=round) if begun else ''}{error.public_message}") from None
            answer = {"status": RunStatus.RUNNING}
        if answer["status"] == RunStatus.RELEASED:
            return _verified(asked, answer["release"], answer["certificate"], weights, round)
        is_void = answer["status"] == RunStatus.VOID  # ended before data were read: asking again begins it anew
        voids += is_void
        if answer["status"] != RunStatus.RUNNING and not (is_void and voids <= VOID_RUNS):
            raise WrongStatus(_ENDED[is_void].format(round=round, hospital=asked.hospital))
        told = shows_in(answer)
        wait = (0.0 if voids == 1 and is_void else pause) if told is None else told
        if time.monotonic() - started + wait > deadline:
            more = f" It shows in {told:,.1f} s." if told is not None else ""
            raise unanswered(
                f"{asked.hospital} was not done with round {round} after {deadline:g} s.{more} Give a longer "
                "deadline, or resume later: a release that it has made by then costs nothing."
            )
        if told is None:
            pause = min(LONGEST_PAUSE, pause * 1.5)
        elif told >= WORTH_SAYING:
            tell(f"running, shows in {told:.0f} s")
        if closing is None:
            time.sleep(wait)
        elif closing.wait(wait):
            raise unanswered(f"{asked.hospital} was not done with round {round} when enough others were.")


def shows_in(answer: Mapping[str, Any]) -> float | None:
    """Seconds until a running release shows, as its hospital says; None where it does not say, or no such thing."""
    told = answer.get("shows_in")
    if told is None or not math.isfinite(told) or told <= 0:
        return None
    return min(max(float(told), SHORTEST_PAUSE), LONGEST)


def _verified(
    asked: Asked, tensors: Tensors | None, certificate: str | None, weights: Tensors | None, round: int
) -> tuple[Tensors, str]:
    if not certificate or not tensors:
        raise CertificateRefused(f"{asked.hospital} sent a release without a certificate. Ask its owner.")
    try:
        content = certificates.verify(certificate, public_key=asked.public_key, release=to_bytes(tensors))
        expected = {**asked.facts, "request": asked.code, "round": round, "weights_digest": digest(weights or {})}
        check_asked(content, expected)
    except (CertificateRefused, InvalidRequest) as refused:
        raise CertificateRefused(
            f"{asked.hospital} sent a release that is not the one asked for, and it was not kept. {refused}"
        ) from None
    check_finite(asked.hospital, tensors)
    if DOUBLINGS in tensors:
        check_compressed(asked.hospital, tensors)
    return tensors, certificate


def check_asked(certificate: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raise `CertificateRefused` where a certificate speaks of another question than the one that was asked.

    Args:
      certificate: verified.
      expected: by the certificate's fields; `tensors` is that of its `release`.
    """
    stated = {**certificate, "tensors": certificate["release"]["tensors"]}
    stated["researcher"] = stated["researcher"].strip().casefold()
    for name, value in expected.items():
        wanted = value.strip().casefold() if name == "researcher" else value
        if json.loads(json.dumps(wanted)) != stated[name]:
            raise CertificateRefused(
                f"Its certificate says {name} = {_short(stated[name])}, and asked was {_short(wanted)}."
            )


def check_finite(hospital: str, tensors: Tensors) -> None:
    """Raise `WeightsRefused` where a release has values that are no numbers.

    A datasite may not refuse a release for its values, since that would tell of its data. Here they are known already,
    and one of them would end the aggregate of all hospitals.
    """
    for name, array in tensors.items():
        if not np.isfinite(array).all():
            raise WeightsRefused(
                f"{hospital} sent {name!r} with values that are not finite. Where training diverged, begin a study "
                "with a smaller learning_rate or clipping_norm."
            )


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return repr(text if len(text) <= 80 else f"{text[:80]}…")
