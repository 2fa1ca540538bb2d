"""What mechanisms cost: Rényi divergence, ε at a δ, and the noise that a budget needs.

Divergences come from Google's `dp-accounting`, asked at `ORDERS` of our own: at its default fractional orders it does
not converge for common sampling rates. Everything is under add-or-remove-one patient and rounded against ourselves.
Absent on purpose: Opacus's GDP accountant, which understates ε, and any guess for a mechanism that is not known here.

Importing this module is cheap; `dp-accounting` is imported when first needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, assert_never

from policies.deferred_imports import import_without
from policies.errors import BudgetTooSmall, UnsupportedMechanism
from policies.privacy.budget import PrivacyBudget
from policies.privacy.draws import divergence_of, parts_of
from policies.privacy.mechanisms import (
    DPSGD,
    Evaluation,
    Gaussian,
    KaplanMeier,
    Mechanism,
    Patients,
    Regression,
    Statistics,
    check_range,
)
from policies.privacy.nano import epsilon_up, exact, nano_up
from policies.privacy.shared_mechanisms import shared_draws
from policies.privacy.shared_steps import SharedStep, least_multiplier, shared_step

ORDERS: tuple[int, ...] = (*range(2, 65), *range(68, 129, 4), 160, 192, 224, 256, 320, 384, 448, 512)
"""Rényi orders that ε is minimised over, and that a population's filter may choose from."""

LEAST_NOISE, MOST_NOISE = 0.05, 1000.0
MOST_STEPS = 100_000_000  # 1000 rounds of 100,000 steps
_LARGEST_DIVERGENCE = 1e6  # nats of one release; far beyond any budget, far below the ledger's whole numbers
_PLD_UP_TO = 50.0  # ε above which a tighter figure informs nobody and takes seconds to find

# Of one step's divergence, in nats: what sums of logarithms in float64 may be wrong by, measured below 2e-13 against
# 60 digits (tests/policies/privacy/test_accountant.py). Added at every step, so that rounding never understates.
_SLACK = 1e-12


@dataclass(frozen=True)
class Charge:
    """What one release costs a population, in whole numbers that add up exactly.

    Args:
      divergence_nano: Rényi divergence at the population's order in nano-nats, rounded up, at least 1.
      pure_epsilon_nano: its ε in nano-nats where it is pure (δ = 0), else None.
      delta: δ that the mechanism itself fails with; 0 for every mechanism here.
      reads: the patients that it concerns; the others lose nothing by it.
    """

    divergence_nano: int
    pure_epsilon_nano: int | None
    delta: float = 0.0
    reads: Patients = Patients.ALL


def renyi_divergence(mechanism: Mechanism, order: int, *, rounds: int | None = None, accepted: bool = False) -> float:
    """Rényi divergence in nats, at `order`, of `rounds` releases of a mechanism (None: of one release).

    `DPSGD` is `steps` Poisson-subsampled Gaussians a round (Mironov et al. 2019, arXiv:1908.10530). `Statistics` are
    the draws of Laplace noise that answer them, each with its own divergence (`draws`). `Evaluation` and
    `KaplanMeier` add discrete Laplace noise to whole counts of which one patient moves one by 1: P[z] ∝ p^|z|
    against itself moved by one, with p = e^-ε, comes to (p^(1-α) + p^α) / (1 + p), which is randomized response,
    the largest divergence that a pure ε admits (Bun & Steinke 2016, arXiv:1605.02065, proposition 3.3). The
    tables of an `Evaluation` are independent parts, each with its own ε: their divergences add up (`Evaluation.draws`).
    Counts that hospitals add up under one noise cost what one hospital's part alone leaves of them, unless the owner
    accepted that its roster keeps its word (`shared_sums`); and so does a step of training (`shared_steps`).

    Args:
      order: a whole number, 2 to 512.
      accepted: whether the owner did; of no meaning without shared noise.

    Raises:
      UnsupportedMechanism: a `DPSGD` without its noise multiplier (see `resolve`), or with one below 0.05; or
        `Statistics` of so little ε that the library's noise is coarser than what it is added to.
    """
    check_range("order", order, ORDERS[0], ORDERS[-1], whole=True)
    releases = 1 if rounds is None else rounds
    check_range("rounds", releases, 1, 1000, whole=True)
    if (shared := shared_draws(mechanism)) is not None:
        draws = shared.draws if accepted else shared.draws_if_not
        total = shared.epsilon if accepted else shared.epsilon_if_not
        return min(total, math.fsum(pure_divergence(epsilon, order) for epsilon in draws)) * releases
    match mechanism:
        case DPSGD() | Regression():
            (per_step,) = _per_step(mechanism, (order,), accepted=accepted)
            return per_step * mechanism.steps * releases
        case Statistics():
            return min(mechanism.epsilon, divergence_of(mechanism, order) * (1 + _SLACK)) * releases
        case Evaluation():
            parts = math.fsum(pure_divergence(epsilon, order) for epsilon in mechanism.draws)
            return min(mechanism.epsilon, parts) * releases
        case KaplanMeier():
            return pure_divergence(mechanism.epsilon, order) * releases
        case _:
            assert_never(mechanism)


def pure_divergence(epsilon: float, order: int) -> float:
    """The largest Rényi divergence in nats that a mechanism of a pure `epsilon` has: that of randomized response.

    log((e^{αε} + e^{(1-α)ε}) / (1 + e^ε)) / (α-1), and never above ε, rounded up.
    """
    if order * epsilon > 30:  # the two small exponentials no longer count, and the large ones would overflow
        top, bottom = order * epsilon, (1 - order) * epsilon
        value = top + math.log1p(math.exp(bottom - top)) - (epsilon + math.log1p(math.exp(-epsilon)))
    else:  # the same as 1 + (e^{(α-1)ε} - 1)(1 - e^{-αε}) / (1 + e^{-ε}), without cancelling for small ε
        share = math.expm1((order - 1) * epsilon) * -math.expm1(-order * epsilon) / (1 + math.exp(-epsilon))
        value = math.log1p(share)
    return min(epsilon, value / (order - 1) * (1 + _SLACK))


def charge_for(mechanism: Mechanism, order: int, *, accepted: bool = False) -> Charge:
    """What one release of a mechanism costs a population whose filter has `order`.

    Args:
      accepted: whether the owner accepted, for this request, that the roster of its shared noise keeps its word.

    Raises:
      UnsupportedMechanism: as `renyi_divergence`, or a release costs more than any budget holds.
    """
    return _charge(mechanism, renyi_divergence(mechanism, order, accepted=accepted), order, accepted=accepted)


def charge_by_epsilon(mechanism: Statistics | Evaluation, order: int) -> Charge:
    """What one release was charged by version 0.1: the most that its ε admits, however its noise is drawn.

    It is never less than `charge_for`, and certificates of that version state it.
    """
    check_range("order", order, ORDERS[0], ORDERS[-1], whole=True)
    return _charge(mechanism, pure_divergence(mechanism.epsilon, order), order)


def _charge(mechanism: Mechanism, divergence: float, order: int, *, accepted: bool = False) -> Charge:
    if not divergence <= _LARGEST_DIVERGENCE:
        raise UnsupportedMechanism(
            f"One release has a divergence of {divergence:.3g} at order {order}, above {_LARGEST_DIVERGENCE:.0e}. "
            "Ask for more noise or fewer steps."
        )
    pure = None if isinstance(mechanism, Gaussian) else nano_up(_pure_epsilon(mechanism, accepted=accepted))
    return Charge(divergence_nano=max(1, nano_up(divergence)), pure_epsilon_nano=pure, reads=mechanism.reads)


def conversion(order: int, delta: float) -> float:
    """What turns a divergence at `order` into ε at `delta`: ε = max(0, divergence + conversion).

    log((α-1)/α) - (log δ + log α)/(α-1), from Canonne, Kamath & Steinke 2020, arXiv:2004.00010, proposition 12.
    """
    check_range("order", order, 2, 1_000_000, whole=True)
    check_range("delta", delta, 0, 1, open_low=True)
    return _conversion(order, math.log(delta))


def _conversion(order: int, log_delta: float) -> float:
    return math.log1p(-1 / order) - (log_delta + math.log(order)) / (order - 1)


@lru_cache(maxsize=256)
def _conversions(delta: float) -> tuple[float, ...]:
    """`conversion` at each of `ORDERS`. A search asks for the same δ hundreds of times: it is checked once."""
    check_range("delta", delta, 0, 1, open_low=True)
    return tuple(_conversion(order, math.log(delta)) for order in ORDERS)


def best_order(budget: PrivacyBudget) -> int:
    """The order at which most Gaussian releases fit: their divergence grows as α, so the largest capacity over α."""
    capacities = [
        (budget.epsilon - more) / order for order, more in zip(ORDERS, _conversions(budget.delta), strict=True)
    ]
    return ORDERS[capacities.index(max(capacities))]


def _pure_epsilon(mechanism: Statistics | Evaluation | KaplanMeier, *, accepted: bool) -> float:
    """ε of one release of a pure mechanism."""
    shared = shared_draws(mechanism)
    if shared is None:
        return mechanism.epsilon
    return shared.epsilon if accepted else shared.epsilon_if_not


def epsilon_of(mechanism: Mechanism, delta: float, rounds: int | None = None, *, accepted: bool = False) -> float:
    """ε at `delta` of all rounds of a mechanism by themselves (or of `rounds` of them), rounded up to 1e-9.

    A `DPSGD` takes the best of `ORDERS`: it is one mechanism, fixed beforehand. A pure mechanism has the sum of its ε,
    whatever `delta` is. Of shared noise it is what holds for whoever trusts nobody, unless the owner `accepted`.
    Raises `UnsupportedMechanism` as `renyi_divergence` does.
    """
    releases = mechanism.rounds if rounds is None else rounds
    check_range("rounds", releases, 1, 1000, whole=True)
    if isinstance(mechanism, Gaussian):
        per_step = _per_step(mechanism, ORDERS, accepted=accepted)
        return _epsilon_of_steps(per_step, mechanism.steps * releases, delta)
    return float(exact(_pure_epsilon(mechanism, accepted=accepted)) * releases)


def tail_gap(order: int) -> float:
    """How far above ε, found from a divergence at `order`, a privacy loss lies that is exceeded with a chance of δ.

    ε at δ bounds the mean of what is beyond it, not how often something is: P[loss > ε] may be some 2.7 α δ. By
    Markov's inequality P[loss > x] ≤ e^{(α-1)(divergence - x)}, which is δ at x = divergence + log(1/δ)/(α-1), and that
    is ε plus log(α)/(α-1) - log(1-1/α).
    """
    check_range("order", order, 2, 1_000_000, whole=True)
    return math.log(order) / (order - 1) - math.log1p(-1 / order)


def swapped(loss: float, order: int) -> float:
    """The privacy loss of swapping a patient's record, exceeded with the chance of `loss` of adding one, at `order`.

    To swap is to remove and to add. For distributions P and S of two records and R without the patient, Hölder's
    inequality with p = 2 - 1/α gives, of order β = α²/(2α-1), D_β(P, S) ≤ α/(α-1) D_α(P, R) + D_α(R, S) (Mironov 2017,
    arXiv:1702.07476, proposition 11, before it is simplified). With x = divergence + log(1/δ)/(α-1) for one of both,
    D_β + log(1/δ)/(β-1) is at most (2α-1)/(α-1) x.
    """
    return loss * (2 * order - 1) / (order - 1)


def largest_losses(mechanism: Mechanism, delta: float, *, accepted: bool = False) -> tuple[float, float]:
    """What the privacy loss of all rounds exceeds with a chance of at most `delta`, rounded up to 1e-9.

    Returns:
      Of adding or removing a patient, and of swapping a patient's record for another. A pure mechanism never exceeds
      its ε, and twice that.
    """
    if not isinstance(mechanism, Gaussian):
        epsilon = epsilon_of(mechanism, delta, accepted=accepted)
        return epsilon, 2 * epsilon
    steps = mechanism.steps * mechanism.rounds
    per_step = _per_step(mechanism, ORDERS, accepted=accepted)
    losses = [
        step * steps + more + tail_gap(order)
        for order, step, more in zip(ORDERS, per_step, _conversions(delta), strict=True)
    ]
    swaps = [swapped(loss, order) for order, loss in zip(ORDERS, losses, strict=True)]
    least = min(losses)
    if _step_shared_by(mechanism) is None and epsilon_of(mechanism, delta) <= _PLD_UP_TO:
        least = min(least, _largest_loss(_noise_of(mechanism), mechanism.sampling_rate, steps, delta))
    return epsilon_up(least), epsilon_up(min(swaps))


def standalone_epsilon(mechanism: Mechanism, delta: float, *, accepted: bool = False) -> float:
    """What a request of this mechanism alone promises: the least ε at `delta` that is known, and a pure one's own.

    It is what people are told; a population is charged by divergence (`charge_for`), which adds up over requests.
    Noise is not found by it: at ε = 2 there would be some 7 % less of it and a charge that is 16 % higher, at small
    sampling rates up to several times as high, so that a hospital's budget would end earlier for the same words.
    """
    asked = pld_epsilon if isinstance(mechanism, Gaussian) else epsilon_of
    return asked(mechanism, delta, accepted=accepted)


def pld_epsilon(mechanism: Mechanism, delta: float, *, accepted: bool = False) -> float:
    """A tighter ε of all rounds at `delta`, by privacy loss distributions; never for a charge.

    Koskela et al. 2020, arXiv:1906.03049; discretised by Doroshenko et al. 2022, arXiv:2207.04380, whose distribution
    has a δ that is at every ε at least the mechanism's own, and so has a composition of them.

    Never above `epsilon_of`, and equal to it where that exceeds 50, and of a step of training under shared noise: of
    discrete Gaussians no distribution of losses is computed here.
    """
    check_range("delta", delta, 0, 1, open_low=True)
    standalone = epsilon_of(mechanism, delta, accepted=accepted)
    if standalone > _PLD_UP_TO or _step_shared_by(mechanism) is not None:
        return standalone
    if isinstance(mechanism, Gaussian):
        steps = mechanism.steps * mechanism.rounds
        return min(standalone, _pld_gaussian(_noise_of(mechanism), mechanism.sampling_rate, steps, delta))
    return min(standalone, _pld_pure(_pure_epsilon(mechanism, accepted=accepted), mechanism.rounds, delta))


@lru_cache(maxsize=4096)
def noise_multiplier_for(budget: PrivacyBudget, *, sampling_rate: float, steps: int) -> float:
    """Smallest noise multiplier, in steps of 1/1000, whose DP-SGD run fits inside `budget`.

    The run is `steps` Poisson-sampled Gaussian mechanisms (Abadi et al. 2016, arXiv:1607.00133), accounted in RDP
    (Mironov et al. 2019, arXiv:1908.10530) at `ORDERS` under add-or-remove-one patient.

    Args:
      budget: (ε, δ) for the whole run, not for one step.
      sampling_rate: in (0, 1].
      steps: optimizer steps over all rounds, 1 to 100,000,000.

    Returns:
      Noise standard deviation over clipping norm; the run with exactly this value was accounted and fits.

    Raises:
      UnsupportedMechanism: an argument is outside its range.
      BudgetTooSmall: no noise multiplier up to 1000 fits.
    """
    check_range("sampling_rate", sampling_rate, 0, 1, open_low=True)
    check_range("steps", steps, 1, MOST_STEPS, whole=True)

    high, order = _thousandths(MOST_NOISE), _order_at(MOST_NOISE, sampling_rate, steps, budget.delta)
    if not _fits(high, budget, sampling_rate, steps):
        raise _too_small(budget, sampling_rate, steps)
    while True:  # the least noise at one order, then the best order at that noise: one order is cheap, all are not
        least = _least_at(order, budget, sampling_rate, steps, high)
        if least == high:
            break
        high, order = least, _order_at(least / 1000, sampling_rate, steps, budget.delta)
    while not _fits(high, budget, sampling_rate, steps):  # the ε that is stated is rounded up to 1e-9
        high += 1
    while high > _thousandths(LEAST_NOISE) and _fits(high - 1, budget, sampling_rate, steps):
        high -= 1  # where two orders are nearly alike, the other may allow a thousandth less
    return high / 1000


def resolve(mechanism: Mechanism) -> Mechanism:
    """The mechanism with everything filled in that a run needs: a `DPSGD` gets its noise multiplier from its ε.

    Others are returned as they are. Raises `BudgetTooSmall` where no noise multiplier fits, and
    `UnsupportedMechanism` where a given one is below 0.05, or as `renyi_divergence` does.
    """
    shared_draws(mechanism)
    if isinstance(mechanism, Statistics):
        parts_of(mechanism)
    if not isinstance(mechanism, Gaussian):
        return mechanism
    if mechanism.epsilon is None:
        _noise_of(mechanism)
        _step_shared_by(mechanism)
        return mechanism
    budget = PrivacyBudget(mechanism.epsilon, mechanism.delta)
    steps = mechanism.steps * mechanism.rounds
    noise = noise_multiplier_for(budget, sampling_rate=mechanism.sampling_rate, steps=steps)
    if isinstance(mechanism, DPSGD) and (where := mechanism.step_grid) is not None:
        noise = least_multiplier(where, noise)
    resolved = replace(mechanism, noise_multiplier=noise, epsilon=None)
    _step_shared_by(resolved)
    return resolved


# -- one step, one release -----------------------------------------------------------------------------------------


def _noise_of(mechanism: Gaussian) -> float:
    noise = mechanism.noise_multiplier
    if noise is None:
        raise UnsupportedMechanism(
            f"This {mechanism.kind} has no noise multiplier yet. Pass it through `resolve` first."
        )
    check_range("noise_multiplier", noise, LEAST_NOISE, MOST_NOISE)
    return noise


def _step_shared_by(mechanism: Mechanism) -> SharedStep | None:
    """The noise of a training's step that hospitals share, or None."""
    if not isinstance(mechanism, DPSGD) or (where := mechanism.step_grid) is None:
        return None
    return shared_step(where, _noise_of(mechanism))


def _per_step(mechanism: Gaussian, orders: tuple[int, ...], *, accepted: bool) -> tuple[float, ...]:
    """Divergence of one step at each of `orders`, under all parts of a shared noise where the owner `accepted`."""
    rate, shared = float(mechanism.sampling_rate), _step_shared_by(mechanism)
    if shared is None:
        return _divergences(float(_noise_of(mechanism)), rate, orders)
    honest = shared.parts if accepted else 1
    under = _divergences(shared.multiplier(honest), rate, orders)
    return tuple(one + shared.error(honest, order) for one, order in zip(under, orders, strict=True))


def _divergences(noise_multiplier: float, sampling_rate: float, orders: tuple[int, ...]) -> tuple[float, ...]:
    """Of one step at each of `orders`; those of `ORDERS` are found together, once."""
    if not set(orders) <= set(ORDERS):
        return _gaussian_step(noise_multiplier, sampling_rate, orders)
    known = _gaussian_step(noise_multiplier, sampling_rate)
    return known if orders == ORDERS else tuple(known[ORDERS.index(order)] for order in orders)


@lru_cache(maxsize=4096)
def _gaussian_step(
    noise_multiplier: float, sampling_rate: float, orders: tuple[int, ...] = ORDERS
) -> tuple[float, ...]:
    """Divergence of one step at each of `orders`, rounded up."""
    _import_library()
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
    from dp_accounting.privacy_accountant import NeighboringRelation
    from dp_accounting.rdp import RdpAccountant

    accountant: Any = RdpAccountant(orders, NeighboringRelation.ADD_OR_REMOVE_ONE)
    accountant.compose(
        SelfComposedDpEvent(PoissonSampledDpEvent(sampling_rate, GaussianDpEvent(noise_multiplier)), count=1)
    )
    return tuple(max(0.0, float(divergence)) * (1 + _SLACK) + _SLACK for divergence in accountant._rdp)


def _import_library() -> None:
    """Import dp-accounting; of scipy, what privacy loss distributions are computed with comes when one is computed."""
    import_without("dp_accounting", ("scipy.fft", "scipy.optimize", "scipy.signal", "scipy.stats"))


def _gaussian_epsilon(noise_multiplier: float, sampling_rate: float, steps: int, delta: float) -> float:
    return _epsilon_of_steps(_gaussian_step(float(noise_multiplier), float(sampling_rate)), steps, delta)


def _epsilon_of_steps(per_step: tuple[float, ...], steps: int, delta: float) -> float:
    return epsilon_up(min(step * steps + more for step, more in zip(per_step, _conversions(delta), strict=True)))


def _fits(thousandths: int, budget: PrivacyBudget, sampling_rate: float, steps: int) -> bool:
    return _gaussian_epsilon(thousandths / 1000, sampling_rate, steps, budget.delta) <= budget.epsilon


def _order_at(noise_multiplier: float, sampling_rate: float, steps: int, delta: float) -> int:
    """The order that gives the least ε."""
    per_step = _gaussian_step(noise_multiplier, sampling_rate)
    epsilons = [step * steps + more for step, more in zip(per_step, _conversions(delta), strict=True)]
    return ORDERS[epsilons.index(min(epsilons))]


def _least_at(order: int, budget: PrivacyBudget, sampling_rate: float, steps: int, high: int) -> int:
    """The least noise multiplier, in thousandths and up to `high`, that fits at this one order; `high` is said to."""
    left = budget.epsilon - conversion(order, budget.delta)
    low = _thousandths(LEAST_NOISE) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if _gaussian_step(middle / 1000, sampling_rate, (order,))[0] * steps <= left:
            high = middle
        else:
            low = middle
    return high


def _thousandths(noise_multiplier: float) -> int:
    return round(noise_multiplier * 1000)


# -- privacy loss distributions --------------------------------------------------------------------------------------


@lru_cache(maxsize=32)
def _gaussian_losses(noise_multiplier: float, sampling_rate: float, steps: int) -> Any:
    """The privacy loss distribution of all steps, pessimistic, both ways round."""
    _import_library()
    from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism

    # Coarse enough for a console to wait for: of 0.001 nats, at most 0.02 in ε after 100,000 steps.
    step: Any = from_gaussian_mechanism(
        noise_multiplier, value_discretization_interval=1e-3, sampling_prob=sampling_rate
    )
    return step.self_compose(steps)


@lru_cache(maxsize=1024)
def _pld_gaussian(noise_multiplier: float, sampling_rate: float, steps: int, delta: float) -> float:
    losses = _gaussian_losses(noise_multiplier, sampling_rate, steps)
    return epsilon_up(float(losses.get_epsilon_for_delta(delta)))


@lru_cache(maxsize=1024)
def _largest_loss(noise_multiplier: float, sampling_rate: float, steps: int, delta: float) -> float:
    """What the privacy loss exceeds with a chance of at most `delta`, from δ(ε) alone.

    δ(y) = E[(1 - e^{y-L})₊] ≥ P[L > x] (1 - e^{y-x}) for every y < x, so P[L > x] ≤ δ where
    x = y - log(1 - δ(y) / δ); the least of that over y. It holds with any δ(y) that is no less than the true one.
    """
    losses = _gaussian_losses(noise_multiplier, sampling_rate, steps)
    least = float(losses.get_epsilon_for_delta(delta))
    beyond = [least + share * (1 + least) / 64 for share in range(1, 65)]
    deltas = [float(found) for found in losses.get_delta_for_epsilon(beyond)]
    return min(
        (y - math.log1p(-found / delta) for y, found in zip(beyond, deltas, strict=True) if found < delta),
        default=math.inf,
    )


@lru_cache(maxsize=1024)
def _pld_pure(epsilon: float, rounds: int, delta: float) -> float:
    _import_library()
    from dp_accounting.pld.common import DifferentialPrivacyParameters
    from dp_accounting.pld.privacy_loss_distribution import from_privacy_parameters

    # From ε itself: a Laplace event in its stead would understate what a pure mechanism may lose.
    one: Any = from_privacy_parameters(DifferentialPrivacyParameters(epsilon, 0.0), value_discretization_interval=1e-4)
    return epsilon_up(float(one.self_compose(rounds).get_epsilon_for_delta(delta)))


def _too_small(budget: PrivacyBudget, sampling_rate: float, steps: int) -> BudgetTooSmall:
    least = _gaussian_epsilon(MOST_NOISE, sampling_rate, steps, budget.delta)
    return BudgetTooSmall(
        f"ε={budget.epsilon} at δ={budget.delta} is too small for {steps} steps at sampling rate {sampling_rate}: even "
        f"noise_multiplier={MOST_NOISE:g} comes to ε={least:.4f}. Ask for fewer steps or a larger ε.",
        epsilon=budget.epsilon,
        least=least,
    )
