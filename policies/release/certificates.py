"""The signed statement that goes with a release: what ran, what it cost, and where the ledger stands.

A certificate is one line of ASCII JSON with sorted keys, signed with the datasite's Ed25519 key. It holds what is
needed to recompute its ε, so that `verify` needs nothing of the hospital's. The text must be exactly what its own
content serialises to: no byte can change unnoticed. Nothing in it derives from private data but the digest of the
release, which is public with the release.

What a signature cannot say: that the datasite ran what it certifies. It binds the datasite to the statement.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any

from policies.canonical import canonical_ascii
from policies.errors import CertificateRefused, InvalidRequest
from policies.numbers import counted, written
from policies.privacy import accountant
from policies.privacy.budget import NeighboringRelation, PrivacyBudget, UnitOfPrivacy
from policies.privacy.mechanisms import DPSGD, Evaluation, Gaussian, Mechanism, Statistics, as_dict, mechanism_from
from policies.privacy.outcomes import Outcome, outcome_of
from policies.privacy.parts import part_sentences
from policies.privacy.risk import CAVEATS, loss_in_filter, loss_of, risk_sentences, rounded_up
from policies.privacy.shared_sums import Sharing, shown
from policies.privacy.sharing import shared_of
from policies.privacy.subgroups import column_of
from policies.release.certificate_format import SCHEMA_VERSION, parse
from policies.release.tensors import Array, Shapes, check_tensors, digest, from_bytes
from policies.schema.terms import words_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from policies.release.plans import Plan, Published

SOFTWARE = ("private-datasites", "dp-accounting", "opacus", "python-dp", "syft", "torch")
_CONTEXT = b"private-datasites certificate 1\n"  # so that a signature of anything else is none of a certificate


def make_certificate(
    *,
    plan: Plan,
    published: Published,
    datasite: str,
    request: str,
    researcher: str,
    round_number: int,
    tensors: Shapes,
    release_digest: str,
    weights_digest: str,
    order: int,
    budget: PrivacyBudget,
    entry: int,
    head: str,
    protections: Mapping[str, bool],
    issued_at: str,
    spent: float | None = None,
    accepted: bool = False,
) -> dict[str, Any]:
    """The content of a certificate, to be signed. Everything that it says of privacy is computed from `plan`.

    Args:
      tensors: shape and dtype of each tensor of the release, as `plans.release_shapes` gives them.
      release_digest: `releases.digest` of the release; `weights_digest` of what came in.
      order, budget: of the population's filter.
      entry, head: number and hash of the ledger's entry that settled this release.
      protections: which protections held in the process that read private rows.
      issued_at: ISO 8601 with its zone, UTC.
      spent: the population's ε after this release, where it is known.
      accepted: whether the owner accepted the request's shared noise, by which the lesser of its two ε is charged.

    Raises:
      UnsupportedMechanism: the plan's mechanism is not resolved.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "datasite": datasite,
        "request": request,
        "function": plan.function,
        "round": round_number,
        "rounds": plan.rounds,
        "researcher": researcher,
        "dataset": published.name,
        "version": published.version,
        "population": published.population,
        "size": {"patients": published.patients, "kind": published.size_kind},
        "source_sha256": plan.source_sha256,
        "graph_digest": plan.graph.digest if plan.graph else None,
        "plan_digest": plan.digest,
        "weights_digest": weights_digest,
        "mechanism": as_dict(plan.mechanism),
        "declared": as_dict(plan.declared),
        "unit_of_privacy": UnitOfPrivacy.PATIENT.value,
        "neighboring_relation": NeighboringRelation.ADD_OR_REMOVE_ONE.value,
        "privacy": _privacy(plan.mechanism, order, budget, accepted=accepted),
        "budget": {
            "epsilon": float(budget.epsilon),
            "delta": float(budget.delta),
            "spent": None if spent is None else float(spent),
        },
        "release": {
            "digest": release_digest,
            "tensors": [[name, dtype, list(shape)] for name, (shape, dtype) in sorted(tensors.items())],
        },
        "ledger": {"entry": entry, "head": head},
        "protections": dict(protections),
        "software": dict(software_versions()),
        "issued_at": issued_at,
    }


def sign(certificate: Mapping[str, Any], private_key: Ed25519PrivateKey) -> str:
    """The certificate as the text that is handed out: with public key and signature, in canonical form."""
    signed = {**certificate, "public_key": private_key.public_key().public_bytes_raw().hex()}
    signature = private_key.sign(_CONTEXT + canonical_ascii(signed).encode())
    return canonical_ascii({**signed, "signature": signature.hex()})


def verify(
    text: str, *, public_key: str | None = None, release: bytes | Mapping[str, Array] | None = None
) -> dict[str, Any]:
    """The content of a certificate whose every statement that can be checked offline holds.

    Checked are: canonical form, the fields and their kinds, the signature, ε and divergence recomputed from the
    mechanism, and the release where it is given. Recomputed figures may differ by one part in 10⁹, since other machines
    take logarithms with another last digit.

    Args:
      public_key: the datasite's, in hex, from a source that is trusted; None takes the certificate's own, which shows
        that nothing was changed, and not who signed it.
      release: safetensors bytes or the tensors themselves.

    Raises:
      CertificateRefused: naming what does not hold.
    """
    certificate = parse(text)
    if public_key is not None and public_key.strip().lower() != certificate["public_key"]:
        raise CertificateRefused(
            f"It is signed by {certificate['public_key'][:16]}… and not by {public_key.strip()[:16]}…. Compare with "
            "the key that the datasite publishes; an older one may be before its rotation."
        )
    _check_signature(certificate)
    _check_facts(certificate)
    _check_privacy(certificate)
    shapes = _shapes(certificate)
    if release is not None:
        _check_release(certificate, shapes, release)
    return certificate


def explain(certificate: Mapping[str, Any]) -> tuple[str, ...]:
    """A verified certificate in plain words, a sentence or two a line, with the risk to a patient and its caveats."""
    privacy, budget, size = certificate["privacy"], certificate["budget"], certificate["size"]
    cost = rounded_up(privacy["epsilon"]) + (f" at δ = {written(privacy['delta'])}" if privacy["delta"] else "")
    spent = "" if budget["spent"] is None else f", of which {rounded_up(budget['spent'])} were spent after this release"
    exact = "as its owner declared" if size["kind"] == "declared" else "by a differentially private count"
    missing = sorted(name for name, holds in certificate["protections"].items() if not holds)
    which = f"round {certificate['round']} of {certificate['rounds']} of {certificate['function']}"
    data = f"{certificate['dataset']} ({size['patients']} patients, {exact})"
    return (
        f"{certificate['datasite']} certifies {which}, asked by {certificate['researcher']}.",
        f"It ran {certificate['mechanism']['kind']} over {data}.{_inputs_in_words(certificate['mechanism'])}",
        *_outcome_words(mechanism_from(certificate["mechanism"])),
        *_scope(certificate["mechanism"]),
        f"{counted(certificate['rounds'], 'round')} in all, by themselves, cost a patient ε = {cost}.",
        *_shared_words(certificate),
        *risk_sentences(
            loss_of(mechanism_from(certificate["mechanism"]), budget["delta"]),
            total=loss_in_filter(budget["epsilon"], budget["delta"], privacy["order"]),
        ),
        f"The population's budget is ε = {written(budget['epsilon'])}{spent}. Neighbouring data differ by one patient.",
        *CAVEATS,
        f"The job ran without: {', '.join(missing)}." if missing else "Every protection of the job's process held.",
        f"Entry {certificate['ledger']['entry']} of its ledger, issued at {certificate['issued_at']}.",
    )


def _shared_words(certificate: Mapping[str, Any]) -> tuple[str, ...]:
    """Both ε of shared noise, on whom the lesser one rests, and which of them was charged."""
    shared = shared_of(mechanism_from(certificate["mechanism"]))
    if shared is None:
        return ()
    said = certificate["privacy"]["shared_noise"]
    names, at = ", ".join(party.name for party in shared.roster.hospitals), shared.at_delta
    charged = (
        "the first, as its owner accepted for this request" if said["accepted"] else "the second, which trusts nobody"
    )
    return (
        f"Hospitals add parts of one noise: {names}.",
        f"While {shared.assumption()} with the researcher, all rounds cost a patient ε = {shown(said['epsilon'])}{at}.",
        f"If more do, they cost ε = {shown(said['epsilon_if_not'])}{at}. Charged was {charged}.",
    )


def _inputs_in_words(mechanism: Mapping[str, Any]) -> str:
    """A sentence where the model's inputs were named, for transformations are part of what ran."""
    inputs = mechanism.get("inputs", "features")
    return "" if isinstance(inputs, str) else f" The model read: {words_of(tuple(inputs))}."


def _outcome_words(mechanism: Mechanism) -> tuple[str, ...]:
    """What a model predicts, and which subgroups are answered apart, where the mechanism says so."""
    if not isinstance(mechanism, DPSGD | Evaluation):
        return ()
    words = []
    if isinstance(mechanism, DPSGD) and mechanism.compression != "none":
        words.append(
            f"Released are whole numbers ({mechanism.compression}): steps of a public grid of the noise that each"
            " weight moved by."
        )
    if mechanism.target is not None or outcome_of(mechanism.loss) is not Outcome.CLASS:
        names = (mechanism.target,) if isinstance(mechanism.target, str) else mechanism.target
        named = f" {' and '.join(names)}" if names else " the dataset's target"
        words.append(f"The model predicts{named}, with the loss {mechanism.loss}.")
    if isinstance(mechanism, Evaluation) and mechanism.subgroups:
        columns = ", ".join(column_of(subgroup) for subgroup in mechanism.subgroups)
        words.append(f"All patients, and the groups of {columns}, have a table each: they share its ε equally.")
    first = mechanism.initial if isinstance(mechanism, DPSGD) else ""
    public = mechanism.public_weights
    parts = part_sentences(frozen=mechanism.frozen, local=mechanism.local, public_weights=public, initial=first)
    return (*words, *parts)


def _scope(mechanism: Mapping[str, Any]) -> tuple[str, ...]:
    """Whose records counted and by what they were grouped, as the request wrote it."""
    said = []
    if mechanism.get("where"):
        said.append(f"Only records counted for which {mechanism['where']}.")
    if mechanism.get("group_by"):
        said.append(f"Answers are by {', '.join(str(by['column']) for by in mechanism['group_by'])}.")
    return tuple(said)


@cache
def software_versions() -> Mapping[str, str]:
    """Versions of Python and of what is installed of `SOFTWARE`."""
    versions = {"python": platform.python_version()}
    for name in SOFTWARE:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _check_signature(certificate: dict[str, Any]) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    signed = {name: value for name, value in certificate.items() if name != "signature"}
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(certificate["public_key"]))
        key.verify(bytes.fromhex(certificate["signature"]), _CONTEXT + canonical_ascii(signed).encode())
    except (InvalidSignature, ValueError):
        raise CertificateRefused("Its signature is not valid: it was changed after it was signed.") from None


def _check_facts(certificate: dict[str, Any]) -> None:
    if not 1 <= certificate["round"] <= certificate["rounds"]:
        raise CertificateRefused(f"Round {certificate['round']} is outside 1 to {certificate['rounds']}.")
    if certificate["ledger"]["entry"] < 1 or certificate["size"]["patients"] < 0:
        raise CertificateRefused("Its ledger entry or number of patients is none.")
    if any(type(holds) is not bool for holds in certificate["protections"].values()):
        raise CertificateRefused("protections says of each whether it held, true or false.")
    if any(type(version) is not str for version in certificate["software"].values()):
        raise CertificateRefused("software is not a version of each package.")
    try:
        offset = datetime.fromisoformat(certificate["issued_at"]).utcoffset()
    except ValueError:
        offset = None
    if offset != timedelta(0):
        raise CertificateRefused("issued_at is not a time in UTC.")


def _check_privacy(certificate: dict[str, Any]) -> None:
    stated, budget = certificate["privacy"], certificate["budget"]
    try:
        mechanism, declared = mechanism_from(certificate["mechanism"]), mechanism_from(certificate["declared"])
        promised = PrivacyBudget(budget["epsilon"], budget["delta"])
        accepted = stated.get("shared_noise", {}).get("accepted", False)
        version = certificate["schema_version"]
        recomputed = _privacy(mechanism, stated["order"], promised, version=version, accepted=accepted)
    except (InvalidRequest, KeyError, TypeError, ValueError) as error:
        raise CertificateRefused(f"Its mechanism or budget cannot be accounted for: {error}") from None
    if mechanism.rounds != certificate["rounds"] or (
        isinstance(mechanism, DPSGD | Evaluation) == (certificate["graph_digest"] is None)  # these run a model
    ):
        raise CertificateRefused("Its mechanism has another number of rounds, or a graph is missing.")
    _check_figures(stated, recomputed)
    first = mechanism.initial if isinstance(mechanism, DPSGD) and certificate["round"] == 1 else ""
    if first and first != certificate["weights_digest"]:
        raise CertificateRefused("Its first round did not begin with the weights that its request names as initial.")
    asked = recomputed.get("shared_noise", recomputed)["epsilon"]  # of shared noise, what was asked for is the lesser
    if not _is_resolved(declared, mechanism, asked):
        raise CertificateRefused("Its mechanism is not the one that was declared.")
    if budget["spent"] is not None and not 0 < budget["spent"] <= budget["epsilon"] * (1 + 1e-9):
        raise CertificateRefused(f"It states {budget['spent']} spent of ε = {budget['epsilon']}.")


def _check_figures(stated: Mapping[str, Any], recomputed: Mapping[str, Any]) -> None:
    if set(stated) != set(recomputed):
        raise CertificateRefused(
            "It says of shared noise what its mechanism does not, or nothing where noise is shared."
        )
    for name, value in recomputed.items():
        if isinstance(value, dict):
            _check_figures(stated[name], value)
        elif not _near(stated[name], value):
            raise CertificateRefused(f"It states {name} = {stated[name]}, and its mechanism comes to {value}.")


def _privacy(
    mechanism: Mechanism, order: int, budget: PrivacyBudget, *, version: int = SCHEMA_VERSION, accepted: bool = False
) -> dict[str, Any]:
    """What the mechanism costs: of all rounds by themselves, and of this release in the population's filter.

    Of shared noise both ε are said, and whether the owner accepted the lesser one, which is then charged.
    """
    if version == 1 and isinstance(mechanism, Statistics):
        charge = accountant.charge_by_epsilon(mechanism, order)
    else:
        charge = accountant.charge_for(mechanism, order, accepted=accepted)
    shared = shared_of(mechanism)
    delta = mechanism.delta if isinstance(mechanism, Gaussian) else budget.delta
    return {
        "epsilon": accountant.epsilon_of(mechanism, delta, accepted=accepted),
        "delta": float(mechanism.delta) if isinstance(mechanism, Gaussian) else 0.0,
        "order": order,
        "divergence_nano": charge.divergence_nano,
        "pure_epsilon_nano": charge.pure_epsilon_nano,
        **({"shared_noise": _shared(shared, accepted)} if shared is not None else {}),
    }


def _shared(shared: Sharing, accepted: bool) -> dict[str, Any]:
    assumed, if_not = shared.epsilons_in_all
    return {"epsilon": assumed, "epsilon_if_not": if_not, "accepted": accepted}


def _near(stated: Any, recomputed: Any) -> bool:
    if stated is None or recomputed is None:
        return stated is recomputed
    slack = 1 if isinstance(recomputed, int) else 1e-9
    return bool(abs(stated - recomputed) <= slack + abs(recomputed) * 1e-9)


def _is_resolved(declared: Mechanism, mechanism: Mechanism, epsilon: float) -> bool:
    """Whether `mechanism` is `declared`, with nothing but a noise multiplier found for its ε."""
    if not isinstance(declared, Gaussian) or not isinstance(mechanism, Gaussian) or declared.epsilon is None:
        return declared == mechanism
    resolved = {**as_dict(declared), "epsilon": None, "noise_multiplier": mechanism.noise_multiplier}
    return bool(resolved == as_dict(mechanism)) and epsilon <= declared.epsilon * (1 + 1e-9)


def _shapes(certificate: dict[str, Any]) -> dict[str, tuple[tuple[int, ...], str]]:
    try:
        rows = certificate["release"]["tensors"]
        shapes = {str(name): (tuple(int(size) for size in shape), str(dtype)) for name, dtype, shape in rows}
        same = [[name, dtype, list(shape)] for name, (shape, dtype) in sorted(shapes.items())] == rows
    except (TypeError, ValueError):
        same = False
    if not same:
        raise CertificateRefused("release.tensors is not a list of name, dtype and shape.")
    return shapes


def _check_release(certificate: dict[str, Any], shapes: Shapes, release: bytes | Mapping[str, Array]) -> None:
    try:
        tensors = from_bytes(release) if isinstance(release, bytes | bytearray) else release
        check_tensors(tensors, shapes, finite=False)
        computed = digest(tensors)
    except InvalidRequest as error:
        raise CertificateRefused(f"The release is not the one that it certifies: {error}") from None
    if computed != certificate["release"]["digest"]:
        raise CertificateRefused(
            f"The release has digest {computed[:16]}…, and it certifies {certificate['release']['digest'][:16]}…. Find "
            "the release that belongs to it."
        )
