"""Every exception that this project raises.

    DatasiteError
    ├── InvalidRequest          what was asked is malformed, whatever the state
    │   ├── InspectionFailed    the source was read and refused; carries findings
    │   ├── GraphRefused        the model cannot leave as a graph of allowed operators
    │   ├── UnsupportedMechanism  an argument of a mechanism is outside its range
    │   └── WeightsRefused      weights with other names, shapes or dtypes, or not finite
    ├── PermissionRefused       the state or the rules do not allow it
    │   ├── BudgetExceeded      the ledger cannot admit it
    │   ├── BudgetTooSmall      no noise multiplier fits
    │   ├── RuleBroken          an owner's policy forbids it
    │   └── WrongStatus         a request or run is not in the status that this needs
    ├── DataRefused             a table, schema or query cannot be published (owner's side only)
    ├── LedgerDamaged           the chain, totals or file do not verify
    │   └── LedgerBehind        it is an older copy than its witness or a certificate knows
    ├── CertificateRefused      a certificate does not verify
    ├── IsolationMissing        a required protection does not hold on this host
    └── Unavailable             something is down, busy or locked; trying again may help

A message names the value, the bound that it crossed and the next step, and the numbers are attributes. Messages are
written for whoever receives them: nothing private ever stands in one that can reach a researcher. `DataRefused` speaks
of rows and stays with the owner.
"""

from __future__ import annotations


class DatasiteError(Exception):
    """Root of the tree. `public_message` is what a researcher may read."""

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        self.public_message = message
        for name, value in details.items():
            setattr(self, name, value)


class InvalidRequest(DatasiteError):
    """What was asked is malformed, whatever the state of the datasite."""


class InspectionFailed(InvalidRequest):
    """Source was refused; `findings` says where and why."""

    findings: tuple[object, ...] = ()


class GraphRefused(InvalidRequest):
    """A model cannot be run record by record as a graph of allowed operators."""


class UnsupportedMechanism(InvalidRequest):
    """A mechanism is unknown or one of its arguments is outside its range."""


class WeightsRefused(InvalidRequest):
    """Weights whose names, shapes or dtypes are not the plan's, or that are not finite."""


class PermissionRefused(DatasiteError):
    """The state of the datasite or the owner's rules do not allow it."""


class BudgetExceeded(PermissionRefused):
    """The ledger cannot admit a charge; `requested`, `remaining` and `short` are ε."""

    requested: float = 0.0
    remaining: float = 0.0
    short: float = 0.0


class BudgetTooSmall(PermissionRefused):
    """No noise multiplier up to the largest that we allow fits the budget."""


class RuleBroken(PermissionRefused):
    """An owner's policy forbids it."""


class WrongStatus(PermissionRefused):
    """A request or a run is not in the status that this step needs."""


class DataRefused(DatasiteError):
    """A table, schema or query cannot be published. For the owner only: it names rows and values."""

    faults: tuple[str, ...] = ()
    total: int = 0


class LedgerDamaged(DatasiteError):
    """The ledger's chain, totals or file do not verify."""


class LedgerBehind(LedgerDamaged):
    """The ledger is an older copy than its witness or a certificate knows: what was spent since is not in it."""


class CertificateRefused(DatasiteError):
    """A certificate does not verify."""


class IsolationMissing(DatasiteError):
    """A protection that the settings require does not hold on this host."""


class Unavailable(DatasiteError):
    """Something is down, busy or locked; trying again may help."""
