"""Accept a datasite restored from a backup: who vouches that it is the newest, and what it forgot.

`ledger/recovery.py` says why each way is sound. Here is who is asked: the witness of the settings, then a certificate
or the owner.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization

from datasites.ledger.chain import Head
from datasites.ledger.ledger import Ledger
from datasites.ledger.recovery import Accepted
from datasites.ledger.witness import Witness
from datasites.settings import Settings
from datasites.vault.round_secrets import RoundSecrets
from policies.errors import CertificateRefused, InvalidRequest, LedgerBehind, WrongStatus
from policies.privacy.nano import NANO
from policies.release import certificates


def open_witness(settings: Settings, ledger: Ledger) -> Witness | None:
    """The witness of the settings, attached to the ledger; None where they name none.

    Raises:
      LedgerBehind: the ledger is an old copy, or its witness is missing.
      Unavailable: the witness cannot be opened, or another datasite holds it.
    """
    if not settings.witness:
        return None
    witness = Witness(Path(settings.witness), new=not ledger.recovery.is_witnessed)
    try:
        ledger.recovery.attach(witness)
    except BaseException:
        witness.close()
        raise
    return witness


def accept_restored(
    settings: Settings,
    ledger: Ledger,
    actor: str,
    *,
    certificate: str | None = None,
    older: bool = False,
    spent: dict[str, float] | None = None,
    serving: bool = False,
) -> dict[str, Any]:
    """Open a ledger that was put back; answers how, what was charged, and which approvals stand.

    Args:
      certificate: the text of the newest certificate that anybody has.
      older: the copy may be old: what it forgot is charged, and every approval ends.
      spent: without a witness, the ε spent of each population in all.

    Raises:
      LedgerBehind: it is an old copy and `older` is not set; or its witness is of another ledger.
      InvalidRequest: nothing vouches for it, and neither certificate nor `spent` is given.
      WrongStatus: there is nothing to accept.
    """
    witness = ledger.witness
    if witness is None and settings.witness and Path(settings.witness).is_file():
        witness = Witness(Path(settings.witness), new=False)
    try:
        done, how = _accept(settings, ledger, actor, witness, certificate, older, spent, serving)
        RoundSecrets(settings.directory).forget_all()  # what was answered since the copy is not known any more
    finally:
        if not serving and (held := ledger.witness or witness) is not None:
            ledger.witness = None
            held.close()
    standing = ledger.requests.list(status="approved")
    return {
        "how": how,
        "charged": {name: amount.divergence_nano / NANO for name, amount in done.lost.items()},
        "epsilon_spent": {name: ledger.budgets.balance(name).epsilon_spent for name in ledger.budgets.populations()},
        "ended": done.ended,
        "approvals": [
            {"id": request.id, "function": request.function, "researcher": request.researcher} for request in standing
        ],
    }


def _accept(
    settings: Settings,
    ledger: Ledger,
    actor: str,
    witness: Witness | None,
    certificate: str | None,
    older: bool,
    spent: dict[str, float] | None,
    serving: bool,
) -> tuple[Accepted, str]:
    lost_witness = bool(settings.witness) and ledger.recovery.is_witnessed and (witness is None or witness.last is None)
    was_restored = ledger.recovery.is_restored
    if witness is not None and witness.last is not None and not serving:
        try:
            ledger.recovery.attach(witness)
        except LedgerBehind:
            if not older or not ledger.recovery.is_of(witness):
                raise
            ledger.recover()
            done = ledger.recovery.accept_older(actor=actor, witness=witness)
            ledger.recovery.follow_with(witness)
            return done, "witness"
        if was_restored and not ledger.recovery.is_restored:
            return Accepted({}, 0), "witness"
    if not ledger.recovery.is_restored and not lost_witness:
        raise WrongStatus("Nothing was restored here that is not accepted yet.")
    if not serving:
        ledger.recover()
    if certificate is not None:
        done, how = ledger.recovery.accept_as_newest(_head(settings, certificate), actor=actor), "certificate"
    elif older:
        done, how = ledger.recovery.accept_older(actor=actor, spent=spent), "owner"
    else:
        raise InvalidRequest(
            f"No witness vouches for this copy; its ledger ends at entry {ledger.entries.head().seq}. Show the newest"
            " certificate that any researcher or you have (--newest-certificate FILE), or say what was spent in all"
            " (--accept-older --spent POPULATION=EPSILON); populations made after the copy are not in it."
        )
    if settings.witness and ledger.witness is None:
        ledger.recovery.follow_with(witness or Witness(Path(settings.witness), new=True))
    return done, how


def _head(settings: Settings, text: str) -> Head:
    """The head that a certificate of this datasite names. Raises `CertificateRefused`."""
    for path in sorted(settings.directory.glob("certificate*.pem")):
        key = serialization.load_pem_private_key(path.read_bytes(), password=None).public_key()
        raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        try:
            ledger = certificates.verify(text.strip(), public_key=raw.hex())["ledger"]
        except CertificateRefused as error:
            refusal = error
        else:
            return Head(ledger["entry"], ledger["head"])
    raise CertificateRefused(f"The certificate is none of this datasite's: {refusal}")
