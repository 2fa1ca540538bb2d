"""Asking hospitals for releases of approved requests: everyone at once, each with a deadline, nothing asked twice.

A release that this study keeps is not asked for again; one that a datasite already settled comes back at no cost.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from policies.errors import CertificateRefused, DatasiteError, Unavailable, WrongStatus
from policies.release import certificates
from policies.release.tensors import digest, to_bytes
from researcher.connections import Connection
from researcher.progress import Progress
from researcher.state import Release, StudyState, Tensors

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0  # seconds between two looks at a running release
GRACE = 20.0  # seconds that a datasite may be away, as while it starts again, before it is left out
DEADLINE = 600.0
VOID_RUNS = 3
_ENDED = {
    True: "Round {round} at {hospital} ends before it reads data, at no cost. Its owner can see why.",
    False: "Round {round} at {hospital} failed. Its owner can see why; the charge stays, and asking again costs again.",
}


@dataclass(frozen=True)
class Asked:
    """Where a hospital is asked, and for what: its code request and the dataset version."""

    hospital: str
    datasite: Connection
    code: str
    asset: str
    public_key: str


@dataclass
class Answers:
    """Releases by hospital, how long each took in seconds, and why the others are missing."""

    releases: dict[str, Release] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


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
) -> Answers:
    """Ask every hospital in `asked` for round `round` of `role`, in threads, and keep each release as it arrives."""
    answers, sent = Answers(), digest(weights) if weights is not None else ""

    def ask(each: Asked) -> Release:
        if kept := state.release(role, each.hospital, round, sent):
            return kept
        progress.hospital(what, each.hospital, "asked")
        tensors, certificate = ask_release(each, weights, round, deadline=deadline, grace=grace)
        release = Release(each.hospital, role, round, tensors, certificate, sent)
        state.keep(release)
        return release

    def timed(each: Asked) -> None:
        started = time.monotonic()
        try:
            answers.releases[each.hospital] = ask(each)
            answers.seconds[each.hospital] = time.monotonic() - started
            progress.hospital(what, each.hospital, f"released in {answers.seconds[each.hospital]:.1f} s")
        except DatasiteError as error:
            answers.missing[each.hospital] = error.public_message
            progress.hospital(what, each.hospital, f"left out. {error.public_message}")

    if asked:
        with ThreadPoolExecutor(max_workers=min(64, len(asked))) as pool:
            list(pool.map(timed, asked.values()))
    return answers


def ask_release(
    asked: Asked, weights: Tensors | None, round: int, *, deadline: float = DEADLINE, grace: float = GRACE
) -> tuple[Tensors, str]:
    """Ask one hospital and look again until it has released: the tensors and the certificate, which was verified.

    Raises:
      Unavailable: it was away for `grace` seconds, or not done after `deadline` seconds.
      WrongStatus: the run failed there, which only its owner can explain.
      PermissionRefused: it refused.
      CertificateRefused: the certificate does not belong to this release and datasite.
    """
    started, away_since, pause, voids = time.monotonic(), None, FIRST_PAUSE, 0
    while True:
        try:
            answer = asked.datasite.run(asked.code, asked.asset, weights, round)
            away_since = None
        except Unavailable:
            away_since = away_since or time.monotonic()
            if time.monotonic() - away_since + pause > grace:
                raise
            answer = {"status": "running"}
        if answer["status"] == "released":
            return _verified(asked, answer["release"], answer["certificate"])
        voids += answer["status"] == "void"  # ended before data were read, at no cost: asking again begins it anew
        if answer["status"] != "running" and not (answer["status"] == "void" and voids <= VOID_RUNS):
            raise WrongStatus(_ENDED[answer["status"] == "void"].format(round=round, hospital=asked.hospital))
        if time.monotonic() - started + pause > deadline:
            raise Unavailable(
                f"{asked.hospital} was not done with round {round} after {deadline:g} s. Give a longer deadline, or "
                "resume later: a release that it has made by then costs nothing."
            )
        time.sleep(pause)
        pause = min(LONGEST_PAUSE, pause * 1.5)


def _verified(asked: Asked, tensors: Tensors, certificate: str | None) -> tuple[Tensors, str]:
    if not certificate:
        raise CertificateRefused(f"{asked.hospital} sent a release without a certificate. Ask its owner.")
    certificates.verify(certificate, public_key=asked.public_key, release=to_bytes(tensors))
    return tensors, certificate
