"""One sum over a whole team: it is exact, drop-outs do not matter, and a relay that lies reads nobody.

Teams of twelve, of whom nine are the threshold, two may work together, and three are the committee; and of sixty, whose
committee may lose some. Each attack is one check of `policies.secure_sums.committee` away from its aim: further tests
take those checks out, one at a time, and then it reads its victim.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from scipy import stats

from policies.errors import CertificateRefused, Unavailable
from policies.privacy import device_reports
from policies.privacy.device_reports import DeviceQuestion
from policies.secure_sums import committee
from policies.secure_sums.committee import committee_places
from policies.secure_sums.merkle import proof_of
from policies.secure_sums.polynomials import PRIME, opened
from researcher.devices import report as reports
from researcher.devices.demo import simulated, write_reading
from researcher.devices.device import Device, context_of
from researcher.devices.ledger import ROUND
from researcher.devices.process import device_in
from researcher.devices.report import Answering, question_text
from researcher.devices.simulated import SharedWork
from researcher.devices.team_sums import team_sum
from tests.researcher.devices.teams import COLUMN, Relay, accept, answering, device, report, team

CACHED = committee_places
RATES = [60.0 + 5 * place for place in range(12)]  # mean 87.5


@pytest.fixture(autouse=True)
def teams_are_small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every team is asked as one of thousands is, and draws its committee fast."""
    monkeypatch.setattr(reports, "LARGEST_CIRCLE", 2)
    monkeypatch.setattr(committee, "SLOW", 1)
    CACHED.cache_clear()
    yield
    CACHED.cache_clear()


@pytest.fixture
def devices() -> dict[str, Device]:
    """Twelve, who accepted to be one team."""
    return accepted(RATES)


def accepted(rates: list[float]) -> dict[str, Device]:
    made = team(rates)
    accept(report(shared_noise=True), made)
    return made


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without noise, so that a sum can be looked at."""
    monkeypatch.setattr(device_reports, "laplace_part", lambda halvings, parties, source: 0)


def asking(devices: Mapping[str, Device]) -> tuple[DeviceQuestion, dict[int, str], list[str]]:
    """The question, names and keys of a team."""
    ((question, members, keys),), _ = report(shared_noise=True)._rosters(Answering(answering(devices)))
    return question, members, keys


def members_of(devices: Mapping[str, Device]) -> list[str]:
    """Names of the committee."""
    question, members, _ = asking(devices)
    assert question.team is not None
    return [members[place + 1] for place in committee_places(question.team, context_of(question))]


def without(names: Any, at: str) -> Any:
    """These do not answer a step."""
    return lambda name, text: None if name in names and text.get("step") == at else text


def remaining(devices: Mapping[str, Device]) -> list[float]:
    return [one.remaining() for one in devices.values()]


# -- what it gives -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quiet")
def test_a_sum_is_exact(devices: dict[str, Device]) -> None:
    result = report(shared_noise=True).run(answering(devices))
    assert result[COLUMN].mean == pytest.approx(87.5, abs=0.03)
    assert (result[COLUMN].devices, result.circles, result.shares) == (12, 1, 12 / 7)
    assert remaining(devices) == [1.0] * 12


@pytest.mark.usefixtures("quiet")
def test_whoever_is_not_of_the_committee_may_fall_silent_down_to_the_threshold(devices: dict[str, Device]) -> None:
    others = [name for name in devices if name not in members_of(devices)][:3]
    result = report(shared_noise=True).run(Relay(devices, there=without(others, "numbers")))
    staying = [rate for name, rate in zip(devices, RATES, strict=True) if name not in others]
    assert result[COLUMN].mean == pytest.approx(sum(staying) / 9, abs=0.03)
    assert set(result.missing) == set(others)
    assert [devices[name].remaining() for name in others] == [2.0] * 3  # who sent nothing pays nothing


def test_one_too_few_of_the_team_is_refused_and_says_who_paid(devices: dict[str, Device]) -> None:
    others = [name for name in devices if name not in members_of(devices)][:4]
    with pytest.raises(Unavailable, match=r"8 of the team answered, and 9 have to.*Who answered has paid"):
        report(shared_noise=True).run(Relay(devices, there=without(others, "numbers")))
    assert sorted(remaining(devices)) == [1.0] * 8 + [2.0] * 4


@pytest.mark.parametrize("at", ["join", "sum"])
def test_without_its_committee_a_sum_is_not_opened(devices: dict[str, Device], at: str) -> None:
    gone = members_of(devices)[:1]
    said = "Nobody has paid" if at == "join" else "Who answered has paid"
    with pytest.raises(Unavailable, match=rf"2 of the committee .* and 3 have to.*{said}"):
        report(shared_noise=True).run(Relay(devices, there=without(gone, at)))
    assert remaining(devices) == [2.0 if at == "join" else 1.0] * 12


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("at", ["join", "numbers", "sum"])
def test_a_larger_committee_may_lose_some_at_any_step(at: str) -> None:
    devices = accepted([70.0] * 60)
    question, _, _ = asking(devices)
    assert question.team is not None
    spare = question.team.committee.size - question.team.committee.needed
    assert spare >= 2
    result = report(shared_noise=True).run(Relay(devices, there=without(members_of(devices)[:spare], at)))
    assert result[COLUMN].mean == pytest.approx(70, abs=0.03)
    assert result[COLUMN].devices == 60 - (spare if at == "numbers" else 0)


@pytest.mark.usefixtures("quiet")
def test_a_member_that_lies_is_left_out_and_a_device_that_sends_nonsense_stops_the_sum() -> None:
    devices = accepted([70.0] * 60)
    liar, stranger = members_of(devices)[0], next(name for name in devices if name not in members_of(devices))

    def lying(name: str, text: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
        return {"sums": [1, 2]} if name == liar and text.get("step") == "sum" else told

    assert report(shared_noise=True).run(Relay(devices, back=lying))[COLUMN].mean == pytest.approx(70, abs=0.03)

    def nonsense(name: str, text: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
        if name == stranger and text.get("step") == "numbers":
            return told | {"shares": {member: [7, 7] for member in told["shares"]}}
        return told

    with pytest.raises((CertificateRefused, Unavailable), match="Ask again"):
        report(shared_noise=True).run(Relay(accepted([70.0] * 60), back=nonsense))


@pytest.mark.parametrize(
    ("step", "answer"),
    [
        ("join", {}), ("join", {"key": "00" * 32, "signature": "00" * 64}), ("join", {"key": 7, "signature": []}),
        ("numbers", {}), ("numbers", {"key": "00" * 32, "signature": "00" * 64, "shares": {}}), ("numbers", None),
        ("sum", {}), ("sum", {"sums": [1]}), ("sum", {"sums": [PRIME, 0]}), ("sum", {"sums": "x"}),
    ],
)  # fmt: skip
def test_a_device_that_answers_nonsense_is_as_one_that_is_gone(step: str, answer: dict[str, Any] | None) -> None:
    devices = accepted([70.0] * 60)
    name = members_of(devices)[0]

    def changed(asked: str, text: dict[str, Any], told: dict[str, Any]) -> dict[str, Any] | None:
        return answer if asked == name and text.get("step") == step else told

    result = report(shared_noise=True).run(Relay(devices, back=changed))
    assert len(result.devices) == (59 if step == "numbers" else 60)


# -- a relay that lies -------------------------------------------------------------------------------------------------


class Lying:
    """A relay that has one device's numbers in mind, and two devices of its own in the team."""

    def __init__(self, devices: dict[str, Device]) -> None:
        self.devices = devices
        self.question, names, self.keys = asking(devices)
        self.names = {place - 1: name for place, name in names.items()}
        assert self.question.team is not None
        self.team, self.context = self.question.team, context_of(self.question)
        self.drawn = list(committee_places(self.team, self.context))

    def ask(self, place: int, step: str, message: Mapping[str, Any]) -> dict[str, Any]:
        text = json.dumps({"question": self.question.as_dict(), "step": step, "message": message})
        return dict(json.loads(self.devices[self.names[place]].answer(text)))

    def joined(self, places: list[int] | None = None) -> dict[str, Any]:
        """The message that the committee's keys make, or those of other places."""
        rows = []
        for place in sorted(self.drawn if places is None else places):
            told = self.ask(place, "join", {})
            rows.append([place, self.keys[place], told["key"], told["signature"]])
        return {"members": rows, "proof": proof_of([bytes.fromhex(key) for key in self.keys], [row[0] for row in rows])}

    def numbers(self, message: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
        return {place: self.ask(place, "numbers", message) for place in self.names}

    def asked_for(self, member: int, numbers: Mapping[int, dict[str, Any]], places: Any) -> dict[str, Any]:
        """What a member is asked to add up."""
        rows = [
            [place, numbers[place]["key"], numbers[place]["signature"], numbers[place]["shares"][str(member)]]
            for place in places
        ]
        return {"keys": self.keys, "answers": rows}

    def sums(self, numbers: Mapping[int, dict[str, Any]], places: Any) -> dict[int, list[int]]:
        """The committee's sums over these devices, of those that give one."""
        told = {
            turn: self.ask(member, "sum", self.asked_for(member, numbers, places)).get("sums")
            for turn, member in enumerate(self.drawn, 1)
        }
        return {turn: sums for turn, sums in told.items() if sums is not None}

    def mean_of(self, sums: Mapping[int, list[int]], count: int) -> float:
        """In beats, what sums of the committee come to, without noise."""
        total = opened({turn: one[0] for turn, one in sums.items()}, needed=self.team.committee.needed)
        column = self.question.columns[0]
        return column.middle + column.half * total / self.question.steps / count


def split_roster(lying: Lying) -> float | None:
    """Two sums that differ in one device."""
    numbers, everybody = lying.numbers(lying.joined()), list(lying.names)
    victim = next(place for place in everybody if place not in lying.drawn)
    whole = lying.sums(numbers, everybody)
    rest = lying.sums(numbers, [place for place in everybody if place != victim])
    if min(len(whole), len(rest)) < lying.team.committee.needed:
        return None
    return lying.mean_of(whole, 12) * 12 - lying.mean_of(rest, 11) * 11


def too_few(lying: Lying) -> float | None:
    """A sum over one device alone."""
    numbers = lying.numbers(lying.joined())
    sums = lying.sums(numbers, [0])
    return lying.mean_of(sums, 1) if len(sums) >= lying.team.committee.needed else None


def named_many_times(lying: Lying) -> float | None:
    """One device in the place of the whole team."""
    numbers = lying.numbers(lying.joined())
    sums = lying.sums(numbers, [0] * 12)
    return lying.mean_of(sums, 12) if len(sums) >= lying.team.committee.needed else None


class Mine:
    """A member of the relay's own, that keeps its secrets to nobody."""

    def __init__(self, lying: Lying, place: int) -> None:
        self.device, self.lying = lying.devices[lying.names[place]], lying
        self.place = place

    @property
    def private(self) -> bytes:
        with self.device._ledger.transaction() as book:
            return bytes.fromhex(json.loads(book.read(ROUND, self.lying.question.digest) or "{}")["private"])


def own_committee(lying: Lying) -> float | None:
    """A victim is given a committee of the relay's own devices, which are of the team."""
    mine = [place for place in lying.names if place not in lying.drawn][: lying.team.committee.size]
    victim = next(place for place in lying.names if place not in mine)
    told = lying.ask(victim, "numbers", lying.joined(mine))
    return read_by(lying, told, victim, [Mine(lying, place) for place in mine])


def strangers(lying: Lying) -> float | None:
    """A victim is given members who sit at the committee's places with keys that are not the team's."""
    others = {place: device() for place in lying.drawn}
    rows, mine = [], []
    for place in sorted(lying.drawn):
        text = json.dumps({"question": lying.question.as_dict(), "step": "join", "message": {}})
        told = json.loads(others[place].answer(text))
        key = json.loads(others[place].answer('{"what": "about"}'))["key"]
        rows.append([place, key, told["key"], told["signature"]])
    keys = [bytes.fromhex(key) for key in lying.keys]
    victim = next(place for place in lying.names if place not in lying.drawn)
    told = lying.ask(victim, "numbers", {"members": rows, "proof": proof_of(keys, lying.drawn)})
    for place in sorted(lying.drawn):
        one = Mine(lying, place)
        one.device = others[place]
        mine.append(one)
    return read_by(lying, told, victim, mine, keys={row[0]: row[1] for row in rows})


def unsigned_keys(lying: Lying) -> float | None:
    """Round keys of the relay's own in the committee's name."""
    message, pairs = lying.joined(), {}
    for row in message["members"]:
        pairs[row[0]], row[2] = committee.new_round_key()
    victim = next(place for place in lying.names if place not in lying.drawn)
    told = lying.ask(victim, "numbers", message)
    return read_by(lying, told, victim, pairs={place: pair.private_bytes_raw() for place, pair in pairs.items()})


def read_by(
    lying: Lying,
    told: dict[str, Any],
    victim: int,
    mine: list[Mine] | None = None,
    *,
    pairs: dict[int, bytes] | None = None,
    keys: dict[int, str] | None = None,
) -> float | None:
    """What the relay's own members make of one device's shares, where it gave them any."""
    if "shares" not in told:
        return None
    privates = pairs or {one.place: one.private for one in mine or []}
    order = {place: turn for turn, place in enumerate(committee_places(lying.team, lying.context), 1)}
    shares, work = {}, committee.Work()
    for turn, (place, private) in enumerate(sorted(privates.items()), 1):
        pair = X25519PrivateKey.from_private_bytes(private)
        key = pair.public_key().public_bytes_raw().hex()
        secret = work.secret(pair, key, told["key"])
        lasting = (keys or {}).get(place, lying.keys[place])
        pads = committee._pads(secret, lying.context, (lying.keys[victim], told["key"]), (lasting, key), 2)
        shares[order.get(place, turn)] = [
            (share - pad) % PRIME for share, pad in zip(told["shares"][str(place)], pads, strict=True)
        ]
    return lying.mean_of(shares, 1)


def living_dead(lying: Lying) -> float | None:
    """Devices that sent nothing are named in the sum with keys and shares of the relay's own, beside one that did."""
    message = lying.joined()
    numbers = {0: lying.ask(0, "numbers", message)}
    members = committee.checked_members(lying.team, lying.context, message, committee.Work())
    for place in lying.names:
        if place:
            answer = committee.shared_out(
                lying.team, lying.context, members, [0, 0], own=lying.keys[place], work=committee.Work()
            )
            text = committee.numbers_text(lying.context, answer["key"])
            numbers[place] = answer | {"signature": Ed25519PrivateKey.generate().sign(text).hex()}
    sums = lying.sums(numbers, list(lying.names))
    if len(sums) < lying.team.committee.needed:
        return None
    column = lying.question.columns[0]
    return column.middle + (lying.mean_of(sums, 12) - column.middle) * 12


def replayed(lying: Lying) -> float | None:
    """What devices signed for another question is counted in this one, beside one device that answered it."""
    other = Lying(lying.devices)
    other.question = report(name="week 11", shared_noise=True)._shared_by(
        dict(zip(lying.devices, lying.keys, strict=True))
    )
    other.context = context_of(other.question)
    other.drawn = list(committee_places(other.team, other.context))
    before = other.numbers(other.joined())
    message = lying.joined()
    victim = next(place for place in lying.names if place not in lying.drawn)
    numbers = {
        place: {**before[place], "shares": {str(member): [0, 0] for member in lying.drawn}} for place in lying.names
    }
    numbers[victim] = lying.ask(victim, "numbers", message)
    return 0.0 if len(lying.sums(numbers, list(lying.names))) >= lying.team.committee.needed else None


ATTACKS: dict[str, Callable[[Lying], float | None]] = {
    attack.__name__: attack
    for attack in (
        split_roster, too_few, named_many_times, own_committee, strangers, unsigned_keys, living_dead, replayed,
    )
}  # fmt: skip


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_relay_that_lies_reads_nobody(devices: dict[str, Device], attack: str) -> None:
    assert ATTACKS[attack](Lying(devices)) is None


def always(*_: Any, **__: Any) -> bool:
    return True


def forgetful(self: Device, book: Any, question: DeviceQuestion, message: Any, work: Any) -> dict[str, Any]:
    """A member that answers as often as it is asked."""
    kept = self._joined(book, question)
    own = self._key(book).public_key().public_bytes_raw().hex()
    assert question.team is not None
    return {
        "sums": committee.summed(
            question.team, context_of(question), message, private=bytes.fromhex(kept["private"]), own=own, count=2,
            work=committee.Work(),
        )
    }  # fmt: skip


class Uncounted:
    """A team whose sums may be of one device."""

    threshold = 1

    def __init__(self, team: Any) -> None:
        self.team = team

    def __getattr__(self, name: str) -> Any:
        return getattr(self.team, name)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("attack", "where", "name", "instead"),
    [
        ("split_roster", Device, "_summed", forgetful),
        ("unsigned_keys", committee.Work, "is_signed", always),
        ("living_dead", committee.Work, "is_signed", always),
        ("replayed", committee, "numbers_text", lambda context, key: b"numbers " + key.encode()),
        ("strangers", committee, "proved_root", lambda count, keys, proof: "ROOT"),
    ],
)
def test_each_attack_succeeds_without_the_check_against_it(
    devices: dict[str, Device], monkeypatch: pytest.MonkeyPatch, attack: str, where: Any, name: str, instead: Any
) -> None:
    """So that the test above would fail without it."""
    lying = Lying(devices)
    monkeypatch.setattr(where, name, (lambda *_: lying.team.root) if name == "proved_root" else instead)
    victim = 0 if attack == "living_dead" else next(place for place in lying.names if place not in lying.drawn)
    assert ATTACKS[attack](lying) == pytest.approx(0.0 if attack == "replayed" else RATES[victim], abs=0.1)


@pytest.mark.usefixtures("quiet")
def test_one_device_alone_is_read_where_nobody_counts(
    devices: dict[str, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    summed = committee.summed
    monkeypatch.setattr(committee, "summed", lambda team, *rest, **more: summed(Uncounted(team), *rest, **more))
    assert too_few(Lying(devices)) == pytest.approx(RATES[0], abs=0.05)


@pytest.mark.usefixtures("quiet")
def test_one_device_in_the_place_of_all_is_read_where_places_may_be_named_twice(devices: dict[str, Device]) -> None:
    with mock.patch.object(committee, "_answer", fresh(committee._answer)):
        assert named_many_times(Lying(devices)) == pytest.approx(RATES[0], abs=0.05)


def fresh(read: Any) -> Any:
    """Places that compare as different though they are one."""

    class Place(int):
        __hash__ = object.__hash__

        def __eq__(self, other: object) -> bool:
            return self is other

    return lambda *arguments: (Place((row := read(*arguments))[0]), *row[1:])


@pytest.mark.usefixtures("quiet")
def test_a_committee_of_the_relays_own_reads_a_victim_that_does_not_draw_it(
    devices: dict[str, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    lying = Lying(devices)
    mine = [place for place in lying.names if place not in lying.drawn][: lying.team.committee.size]
    monkeypatch.setattr(committee, "committee_places", lambda team, context: tuple(mine))
    victim = next(place for place in lying.names if place not in mine)
    told = lying.ask(victim, "numbers", lying.joined(mine))
    monkeypatch.setitem(globals(), "committee_places", lambda team, context: tuple(mine))
    read = read_by(lying, told, victim, [Mine(lying, place) for place in mine])
    assert read == pytest.approx(RATES[victim], abs=0.05)


# -- its noise ---------------------------------------------------------------------------------------------------------


def noise_of_sums(times: int, *, forgetful: int = 0) -> list[int]:
    """y of sums over twelve devices whose numbers are 0: noise alone. The first so many devices forget their parts."""
    part, asked, work = device_reports.laplace_part, report(epsilon=20.0, shared_noise=True), SharedWork()
    middle, drawn = [120.0] * 12, []
    for _ in range(times):
        made = {f"d{place}": simulated(rate, budget=20, work=work) for place, rate in enumerate(middle)}
        accept(asked, made)
        forget = iter([True] * 2 * forgetful)
        with mock.patch.object(
            device_reports, "laplace_part", lambda *arguments, f=forget: 0 if next(f, False) else part(*arguments)
        ):
            ((question, members, keys),), _ = asked._rosters(Answering(answering(made)))
            drawn.append(team_sum(Answering(answering(made)), question, members, keys).sums[0])
    return drawn


def evenness(drawn: list[int]) -> float:
    """p that numbers are of the noise of 12/7 wholes, by its exact chances in eight cells."""
    halvings, size = report(epsilon=20.0).question.halvings, 1 << 16
    a = 1 - 2.0**-halvings
    phases = 2 * np.pi * np.arange(size) / size
    chances = np.fft.fftshift(np.fft.ifft((np.abs((1 - a) / (1 - a * np.exp(1j * phases))) ** 2) ** (12 / 7)).real)
    below = np.cumsum(chances)
    edges = [int(np.searchsorted(below, share)) for share in np.arange(1, 8) / 8]
    cells = np.bincount(np.searchsorted(edges, np.array(drawn) + size // 2), minlength=8)
    expected = np.diff([0.0, *below[edges], 1.0]) * len(drawn)
    return float(stats.chisquare(cells, expected).pvalue)


@pytest.mark.slow
def test_the_noise_of_a_sum_is_that_of_its_parts_exactly() -> None:
    assert evenness(noise_of_sums(300)) > 1e-4


@pytest.mark.slow
def test_a_part_of_the_noise_that_is_forgotten_is_seen() -> None:
    """The fault that the test above is for: eight of twelve devices add nothing, and 4/7 of a whole are left."""
    assert evenness(noise_of_sums(300, forgetful=8)) < 1e-6


def differences(lying: Lying) -> int:
    """y - s of one device, as a pad that is used for both of its numbers would give it to anybody."""
    told = lying.ask(0, "numbers", lying.joined())["shares"]
    gaps = {turn: (told[str(place)][0] - told[str(place)][1]) % PRIME for turn, place in enumerate(lying.drawn, 1)}
    return opened(gaps, needed=lying.team.committee.needed)


@pytest.mark.usefixtures("quiet")
def test_a_pad_that_is_used_twice_is_seen(devices: dict[str, Device], monkeypatch: pytest.MonkeyPatch) -> None:
    y, s = report().question.exact({COLUMN: RATES[0]})
    assert abs(differences(Lying(devices))) > 2**40
    once = committee._pads
    monkeypatch.setattr(committee, "_pads", lambda *arguments: once(*arguments)[:1] * arguments[-1])
    assert differences(Lying(accepted(RATES))) == y - s


# -- what a device keeps -----------------------------------------------------------------------------------------------


def test_shares_say_nothing_and_leave_once(devices: dict[str, Device]) -> None:
    lying = Lying(devices)
    message = lying.joined()
    first, again = lying.numbers(message), lying.numbers(message)
    assert first == again
    assert remaining(devices) == [1.0] * 12
    shares = [share for told in first.values() for pair in told["shares"].values() for share in pair]
    assert len(set(shares)) == len(shares)
    assert min(shares) > PRIME // 10**6  # 72 numbers: a small one among them comes once in ten thousand
    assert set(first[0]) == {"key", "shares", "signature"}


def test_a_members_round_key_is_gone_once_it_gave_its_sum(devices: dict[str, Device]) -> None:
    lying = Lying(devices)
    numbers = lying.numbers(lying.joined())
    member = Mine(lying, lying.drawn[0])
    assert len(member.private) == 32
    asked = lying.asked_for(member.place, numbers, lying.names)
    told = lying.ask(member.place, "sum", asked)
    assert member.private == b""
    assert lying.ask(member.place, "sum", asked) == told  # kept, and given again to the same question alone
    assert (
        "gives one"
        in lying.ask(member.place, "sum", lying.asked_for(member.place, numbers, list(lying.names)[1:]))["refused"]
    )


def test_what_a_device_answered_outlives_its_process(tmp_path: Path) -> None:
    devices = team(RATES)
    write_reading(tmp_path, 71.0)
    devices["d00000"] = device_in(tmp_path, budget=2)
    accept(report(shared_noise=True), devices)
    lying = Lying(devices)
    message = lying.joined()
    numbers = lying.numbers(message)
    member = lying.drawn[0]
    asked = lying.asked_for(member, numbers, lying.names)
    kept = lying.ask(0, "join", {})
    devices["d00000"] = device_in(tmp_path)
    assert lying.ask(0, "numbers", message) == numbers[0]
    assert lying.ask(0, "join", {}) == kept
    assert devices["d00000"].remaining() == 1.0
    assert len(lying.ask(member, "sum", asked)["sums"]) == 2


@pytest.mark.parametrize(
    ("step", "message", "said"),
    [
        ("numbers", {}, "no members"), ("numbers", {"members": [], "proof": []}, "0 of the committee joined"),
        ("numbers", {"members": [[0]], "proof": []}, "a member is written"), ("sum", {}, "no keys"),
        ("sum", {"keys": [], "answers": []}, "keys of the whole team"), ("else", {}, "one of join, numbers, sum"),
        ("join", 7, "has a message"), ("sum", {"keys": ["00" * 32] * 12, "answers": []}, "not the keys of the team"),
    ],
)  # fmt: skip
def test_a_message_that_is_none_is_refused_alike_whatever_the_number_is(step: str, message: Any, said: str) -> None:
    low, high = accepted([40.0] * 12), accepted([200.0] * 12)
    told = [Lying(devices).ask(0, step, message) for devices in (low, high)]
    assert told[0] == told[1]
    assert said in told[0]["refused"]
    assert remaining(low) == remaining(high) == [2.0] * 12


def test_who_is_not_of_the_committee_adds_nothing_up(devices: dict[str, Device]) -> None:
    lying = Lying(devices)
    numbers = lying.numbers(lying.joined())
    other = next(place for place in lying.names if place not in lying.drawn)
    asked = lying.asked_for(lying.drawn[0], numbers, lying.names)
    assert "not of this question's committee" in lying.ask(other, "sum", asked)["refused"]


def test_who_did_not_accept_pays_as_if_all_others_worked_together() -> None:
    devices = team(RATES, budget=20)
    question, _, _ = asking(devices)
    alone = question.epsilon_if(1)
    assert alone > 10
    said = devices["d00000"].accept(question_text(question))
    assert "12 devices add parts of one noise, and any 7 parts are the whole" in said
    assert "no more than 2 of the other 11" in said
    report(shared_noise=True).run(answering(devices))
    left = remaining(devices)
    assert left[0] == 19.0
    assert left[1:] == pytest.approx([20 - alone] * 11, abs=1e-5)


def test_a_larger_share_may_work_together_for_a_larger_committee_and_more_noise() -> None:
    few, many = report(shared_noise=True), report(shared_noise=True, colluding=1 / 3)
    assert few.check(1000).colluding == 200
    assert many.check(1000).colluding == 333
    own, shared = many.check(1000).shared, few.check(1000).shared
    assert own is not None
    assert shared is not None
    assert own[COLUMN] > shared[COLUMN]
