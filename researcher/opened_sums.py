"""What opens a sum again, kept beside a saved result: whoever has it finds the sum that masked releases come to.

Of weights a sum says how far their mean moved, so what the last round began with is kept as well. Certificates name its
digest; so a model that a strategy made of that mean by averaging (FedAvg, FedProx) is found again to the bit. What a
strategy with a memory of earlier rounds makes of it (FedAdam) `study.run()` alone replays.

An opening is what hospitals signed and gave in a round: their round keys, who shared secrets, who is in the sum, and
the shares that take its masks away. It opens the sum and nothing less. Which round it was, of which request, roster and
weights, is read from the certificates of the releases, so that an opening of another round opens nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from policies.errors import CertificateRefused, DatasiteError, InvalidRequest
from policies.privacy.mechanisms import DPSGD, Evaluation, mechanism_from
from policies.privacy.secure_aggregation import SecureAggregation
from policies.release import certificates
from policies.release.summed import step_of_patients, steps_of
from policies.release.summed_step import after_round
from policies.release.tensors import digest, to_bytes
from policies.schema.schemas import Schema
from policies.secure_sums import messages
from policies.secure_sums.encoding import Words, added, words_of
from policies.secure_sums.opening import open_sum, read_revealed
from researcher.state import Release, StudyState, Tensors

FOLDER = "sums"
BEGUN = ".begun.safetensors"
Opening = Mapping[str, Any]


def name_of(role: str, round: int) -> str:
    """What an opening is kept under."""
    return f"{role}-{round:03d}"


def openings_of(state: StudyState, releases: Sequence[Release]) -> dict[str, Opening]:
    """Every opening that a study keeps of its masked releases, by name; those that no sum was opened with left out."""
    openings: dict[str, Opening] = {}
    for name in sorted({name_of(release.role, release.round) for release in releases}):
        told = state.read(f"{FOLDER}/{name}")
        if "revealed" in told and "survivors" in told:
            openings[name] = {
                "book": told["book"],
                "sharing": sorted(map(int, told["boxes"])),
                "survivors": told["survivors"],
                "revealed": told["revealed"],
            }
    return openings


def reopened(opening: Opening, releases: Sequence[Release]) -> Words:
    """The sum that masked releases of one round come to, modulo 2^32.

    Args:
      releases: of the hospitals in the sum, with their certificates, which are verified; others are passed over.

    Raises:
      CertificateRefused: a certificate, a release, a key or a share is not what its hospital signed, or certificates
        are of different rounds.
      InvalidRequest: the opening cannot be read, has too few shares, or is of other hospitals.
    """
    contexts, masked, declared = set(), {}, None
    for release in releases:
        content = certificates.verify(release.certificate, release=to_bytes(release.tensors))
        declared = getattr(mechanism_from(content["mechanism"]), "secure_aggregation", None)
        party = declared.party_of(content["public_key"]) if declared is not None else None
        if declared is None or party is None:
            raise CertificateRefused(f"The release of {release.hospital} is of no sum that its key takes part in.")
        contexts.add(
            messages.context_of(
                declared,
                source_sha256=content["source_sha256"],
                round_number=int(content["round"]),
                weights_digest=content["weights_digest"],
            )
        )
        masked[party] = words_of(release.tensors)
    if declared is None or len(contexts) != 1:
        raise CertificateRefused("Certificates of different requests, rounds or weights do not add up.")
    return _opened(opening, declared, contexts.pop(), masked)


def _opened(opening: Opening, declared: SecureAggregation, context: str, masked: Mapping[int, Words]) -> Words:
    try:
        if missing := set(opening["survivors"]) - set(masked):
            names = ", ".join(declared.hospitals[party - 1].name for party in sorted(missing))
            raise InvalidRequest(f"The masked release of {names} is not here, and the sum is over it.")
        masked = {party: masked[party] for party in sorted(opening["survivors"])}
        revealed = messages.numbered(declared, opening["revealed"], "revealed")
        return open_sum(
            declared,
            context,
            book={
                party: messages.announced_in(announced)
                for party, announced in messages.numbered(declared, opening["book"], "book").items()
            },
            sharing=[int(party) for party in opening["sharing"]],
            masked=masked,
            revealed={party: read_revealed(declared, told) for party, told in revealed.items()},
        )
    except (LookupError, TypeError, ValueError, AttributeError):
        raise InvalidRequest("What opens the sum cannot be read. Save the result again.") from None


def check_summed(opening: Opening, releases: Sequence[Release], schema: Schema | None, summed: Tensors) -> None:
    """Raise `CertificateRefused` unless `summed` is what masked releases come to, exactly; else as `reopened`.

    Args:
      schema: of the dataset; None of classes without subgroups, whose cells are patients.
    """
    total, like = reopened(opening, releases), releases[0].tensors
    mechanism = mechanism_from(json.loads(releases[0].certificate)["mechanism"])
    steps: dict[str, float] | None
    if schema is None:
        assert isinstance(mechanism, Evaluation)
        steps = dict.fromkeys(like, step_of_patients(mechanism, mechanism.draws[0]))
    else:
        steps = steps_of(mechanism, schema, like)
    assert steps is not None
    found = added(total, like, steps)
    for name, cells in found.items():
        if name not in summed or not np.array_equal(cells, np.asarray(summed[name])):
            raise CertificateRefused(
                f"The sum {name!r} is not the one that the hospitals' masked releases come to: it was changed after it"
                " was opened. Ask for it anew: study.evaluate() gives it at no cost."
            )


def begun_file(directory: Path, round: int) -> Path:
    """Where a saved result keeps what its last round began with."""
    return directory / FOLDER / f"{name_of('training', round)}{BEGUN}"


def aggregate_of(opening: Opening, releases: Sequence[Release], begun: Tensors) -> Tensors:
    """What a strategy that averages hospitals by their patients makes of a round of which the mean alone can be read.

    Each hospital's part is the mean, and Flower adds them up in float32: the same is done here, to the bit.

    Args:
      releases: masked, of the round; `begun`, the weights that it began with.

    Raises:
      CertificateRefused: `begun` is not what certificates say that hospitals were sent; else as `reopened`.
    """
    total = reopened(opening, releases)
    content = [json.loads(release.certificate) for release in releases]
    if any(one["weights_digest"] != digest(begun) for one in content):
        raise CertificateRefused(
            f"What round {releases[0].round} began with is not what the certificates of {releases[0].hospital} and the"
            " others say that they were sent: it was changed. Save the result again: study.run() gives it at no cost."
        )
    mechanism = mechanism_from(content[0]["mechanism"])
    declared = mechanism.secure_aggregation
    assert isinstance(mechanism, DPSGD)
    assert declared is not None
    survivors = [int(party) for party in opening["survivors"]]
    mean = after_round(total, begun, mechanism, round=releases[0].round, parties=survivors)
    named = sorted(
        (release.hospital, declared.party_of(one["public_key"])) for release, one in zip(releases, content, strict=True)
    )
    patients = [declared.hospitals[party - 1].patients for _, party in named if party in survivors]
    found: dict[str, Any] = {}
    for share in [one / sum(patients) for one in patients]:
        for name, value in mean.items():
            found[name] = value * share if name not in found else found[name] + value * share
    return found


def check_aggregate(
    opening: Opening, releases: Sequence[Release], begun: Tensors, aggregate: Tensors, *, file: str
) -> None:
    """Raise `CertificateRefused`, naming `file`, unless it holds what masked releases come to; as `aggregate_of`."""
    found = aggregate_of(opening, releases, begun)
    if digest(found) != digest(aggregate):
        raise CertificateRefused(
            f"{file} holds other weights than the mean that the hospitals' masked releases of round {releases[0].round}"
            " come to: it was changed after the sum was opened. Save the result again: study.run() gives it at no cost."
        )


def masked_of(releases: Sequence[Release], role: str, round: int) -> list[Release]:
    """The releases of a round that are under masks."""
    wanted = [one for one in releases if (one.role, one.round) == (role, round)]
    return [one for one in wanted if {value.dtype.name for value in one.tensors.values()} == {"uint32"}]


def saved_openings(directory: Path) -> dict[str, Opening]:
    """The openings beside a saved result, by name; {} where it was saved by a version that kept none."""
    folder = directory / FOLDER
    if not folder.is_dir():
        return {}
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def sentences_of(
    openings: Mapping[str, Opening], among: Sequence[Release], *, mean_of_weights: bool = False
) -> list[str]:
    """What is true of every sum of a loaded result, as `researcher verify` says it, once all were opened again.

    Args:
      openings: by name; `among`, every release of the result. Loading it held each evaluation's sum against what its
        masked releases come to.
      mean_of_weights: whether loading it held its weights against them, too: they are the mean of the last round.

    Raises:
      CertificateRefused, InvalidRequest: as `reopened`, with the sum's name.
    """
    said = []
    for name, opening in openings.items():
        role, _, round = name.rpartition("-")
        releases = masked_of(among, role, int(round))
        try:
            reopened(opening, releases)
        except DatasiteError as error:
            raise type(error)(f"{FOLDER}/{name}.json: {error.public_message}") from None
        who = ", ".join(sorted(release.hospital for release in releases))
        said.append(f"{FOLDER}/{name}.json: opens the sum of {who}. Its keys and shares are what they signed.")
    if mean_of_weights:
        said.append(
            "weights.safetensors: is what the mean that masked releases of the last round come to makes of them."
        )
    elif any(name.startswith("training-") for name in openings):
        said.append("weights.safetensors: is what the study's strategy made of the means, which study.run() replays.")
    return [*said, "result.json: its scores are those of the sums that masked releases come to."] if said else []
