"""Ask many people's devices for a mean and a variance: say what the answer can be, ask, and report it.

report = researcher.DeviceReport(["heart_rate"], {"heart_rate": (40, 200)}, epsilon=1.0)
print(report.check(10_000))
result = report.run(devices)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from policies.canonical import canonical
from policies.errors import CertificateRefused, InvalidRequest, Unavailable
from policies.numbers import written
from policies.privacy.checks import check_range
from policies.privacy.device_reports import Column, DeviceQuestion
from policies.privacy.secure_aggregation import MOST_HOSPITALS, Party, SecureAggregation
from policies.privacy.team_sums import MOST_COLLUDING, MOST_DEVICES, TeamSum
from policies.secure_sums.merkle import root_of
from policies.secure_sums.messages import hex_of
from researcher.devices.device import ABOUT
from researcher.devices.estimates import figures, margin
from researcher.devices.outcome import Outcome, Prospect
from researcher.devices.page import written_page
from researcher.devices.sums import Answers, Devices, asked, circle_sum, own_noise
from researcher.devices.team_sums import team_sum

LARGEST_CIRCLE = MOST_HOSPITALS
COLLUDING = 0.2
"""Of a team of more than a circle may work together with the researcher, unless another share is named."""
_LARGEST_TEAM = 10_000_000


class DeviceResult(Outcome):
    """What a team learned; see `Outcome` for its fields."""

    def report(self, path: str | Path) -> Path:
        """Write a page of its own with figures, what they could have been, and what is promised; where it lies."""
        return written_page(self, path)


class DeviceReport:
    """A mean and a variance of numbers that lie on people's own devices.

    Args:
      columns: names of the numbers, as `["heart_rate"]`; 1 to 20.
      bounds: the lowest and the highest value of each, by name or in the columns' order; public, and never found from
        the numbers. A number beyond counts as the bound.
      epsilon: that each device pays for its answer, pure (δ = 0), shared by the columns.
      name: what is asked and when. A device that was asked the same before gives the same answer, at no charge.
      shared_noise: whether devices add parts of one noise: up to 100 of them under masks, more by a committee that is
        drawn from them, in one sum of up to 20,000.
      threshold: with shared noise, the share of devices without which a sum is not opened, above one half; more than
        two thirds where it is left out. With a higher one a circle's devices may work together unharmed in larger
        numbers, and more of them have to answer.
      colluding: the share of more than 100 devices that may work together with the researcher unharmed, up to a third;
        a fifth where it is left out. Of a circle it follows from the threshold.
      circle: devices that add up together at most, 2 to 100, for circles and no committee whatever the team's size.

    Raises:
      UnsupportedMechanism: an argument is outside its range; says which, and the range.

    >>> report = DeviceReport(["heart_rate"], {"heart_rate": (40, 200)}, epsilon=1.0)
    >>> print(report.check(2))
    2 devices at ε = 1, means in 95 of 100 reports:
      each device's own noise, nobody trusted: heart_rate ± 370
      shared noise in circles, up to 0 others of a circle working together: heart_rate ± 270 (ε = 5.49 if more do)
    """

    def __init__(
        self,
        columns: Sequence[str],
        bounds: Mapping[str, tuple[float, float]] | Sequence[tuple[float, float]],
        epsilon: float,
        *,
        name: str = "device report",
        shared_noise: bool = False,
        threshold: float | None = None,
        colluding: float | None = None,
        circle: int | None = None,
    ) -> None:
        self.question = DeviceQuestion(name=name, columns=_columns(columns, bounds), epsilon=epsilon)
        self.question.halvings  # noqa: B018 - refuses what cannot be answered before anybody is asked
        if threshold is not None and not 0.5 < threshold <= 1:
            raise InvalidRequest(
                f"threshold={threshold} is outside (0.5, 1]. Leave it out for just more than two thirds."
            )
        if circle is not None:
            check_range("circle", circle, 2, LARGEST_CIRCLE, whole=True)
            if colluding is not None:
                raise InvalidRequest("colluding follows from the threshold in a circle. Leave out one of both.")
        if colluding is not None:
            check_range("colluding", colluding, 0, MOST_COLLUDING)
        self.shared_noise, self.threshold, self.colluding, self.circle = shared_noise, threshold, colluding, circle

    def check(self, devices: int) -> Prospect:
        """What an answer of so many devices can be. Nothing is asked, and nothing spent."""
        if not isinstance(devices, int) or not 1 <= devices <= _LARGEST_TEAM:
            raise InvalidRequest(f"devices={devices!r} is outside [1, {_LARGEST_TEAM:,}]. Say how many would answer.")
        sizes = self._sizes(devices)
        together = devices >= 2
        sums = [self._unmet(size) for size in sizes] if together else []
        shares = math.fsum(size / question.parts for size, question in zip(sizes, sums, strict=bool(sums)))
        roster = sums[0].roster if sums else None
        return Prospect(
            devices,
            float(self.question.epsilon),
            self._margins(devices, devices),
            self._margins(devices, shares) if together else None,
            sums[0].epsilon_if(1) if sums else math.inf,
            roster.colluding if roster else 0,
            in_circles=not sums or sums[0].team is None,
        )

    def devices_for(self, margin_wanted: float, *, column: str | None = None) -> int:
        """The fewest devices with which a column's mean is as good, with each device's own noise.

        Raises `InvalidRequest` where ten million are not enough.
        """
        chosen = next((one for one in self.question.columns if column in (None, one.name)), None)
        if chosen is None:
            raise InvalidRequest(f"{column!r:.60} is none of the columns.")
        low, high = 1, 2
        while self._margin(chosen, high) > margin_wanted:
            low, high = high, high * 2
            if high > _LARGEST_TEAM:
                raise InvalidRequest(
                    f"No {_LARGEST_TEAM:,} devices give {chosen.name} to ± {written(margin_wanted)} at ε ="
                    f" {written(float(self.question.epsilon))}. Ask for less, or for a larger epsilon."
                )
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._margin(chosen, middle) > margin_wanted else (low, middle)
        return high if self._margin(chosen, low) > margin_wanted else low

    def circles(self, devices: Devices) -> list[tuple[DeviceQuestion, dict[int, str]]]:
        """The question of each sum, whose roster people may accept, and its devices by their numbers in the roster.

        Asks every device for its key, which costs nothing. Who gives none is in no sum.
        """
        return [(question, members) for question, members, _ in self._rosters(devices)[0]]

    def _rosters(
        self, devices: Devices
    ) -> tuple[list[tuple[DeviceQuestion, dict[int, str], list[str]]], dict[str, str]]:
        """Of each sum its question, its devices' names and their keys; and why other devices are in none."""
        keys, missing = self._keys(devices)
        names, begin, listed = sorted(keys), 0, []
        if len(names) < 2:
            raise Unavailable(f"{len(names)} devices gave a key, and a sum is over 2 or more. Ask when more answer.")
        for size in self._sizes(len(names)):
            members = names[begin : begin + size]
            begin += size
            listed.append(
                (
                    self._shared_by({name: keys[name] for name in members}),
                    dict(enumerate(members, 1)),
                    [keys[name] for name in members],
                )
            )
        return listed, missing

    def run(self, devices: Devices | Mapping[str, Callable[[str], str]]) -> DeviceResult:
        """Ask every device, and report on those that answered.

        Args:
          devices: where they are reached: by name something that takes a text and returns one, as `Device.answer`; or
            `researcher.devices.flower.FlowerDevices(grid)`.

        Raises:
          Unavailable: no device answered, or too few of every circle.
        """
        reached: Any = Answering(devices) if isinstance(devices, Mapping) else devices
        answers, opened = self._in_sums(reached) if self.shared_noise else (own_noise(reached, self.question), 0)
        if not answers.devices:
            reasons = " ".join(sorted(set(answers.missing.values()))[:3])
            raise Unavailable(f"No device answered. {reasons or 'There was none to ask.'}")
        count = len(answers.devices)
        return DeviceResult(
            self.question,
            figures(self.question, answers.sums, devices=count, shares=answers.shares),
            tuple(answers.devices),
            answers.missing,
            answers.shares,
            opened,
            self.check(count),
        )

    def _in_sums(self, devices: Devices) -> tuple[Answers, int]:
        rosters, missing = self._rosters(devices)
        total = Answers([], missing=dict(missing))
        opened = 0
        for question, members, keys in rosters:
            try:
                if question.team is None:
                    answers = circle_sum(devices, question, members)
                else:
                    answers = team_sum(devices, question, members, keys)
            except (Unavailable, CertificateRefused) as error:
                total.missing |= dict.fromkeys(members.values(), str(error))
                continue
            before = total.sums or [0] * len(answers.sums)
            total.sums = [one + other for one, other in zip(before, answers.sums, strict=True)]
            total.devices += answers.devices
            total.missing |= answers.missing
            total.shares += answers.shares
            opened += 1
        return total, opened

    def _keys(self, devices: Devices) -> tuple[dict[str, str], dict[str, str]]:
        told, missing = asked(devices, dict.fromkeys(devices.names, canonical(ABOUT).decode()))
        keys: dict[str, str] = {}
        for name, answer in told.items():
            try:
                keys[name] = hex_of(answer.get("key"), "a key", 32)
            except InvalidRequest:
                missing[name] = "It gave no key."
        counts = Counter(keys.values())
        if twice := [name for name, key in keys.items() if counts[key] > 1]:
            raise InvalidRequest(f"{', '.join(twice[:5])} have one key. Leave out all but one of them.")
        return keys, missing

    def _shared_by(self, keys: Mapping[str, str]) -> DeviceQuestion:
        """The question to devices that share one noise: a circle, or a team."""
        threshold = self._threshold(len(keys))
        if not self._is_team(len(keys)):
            parties = tuple(Party(name, key, 1) for name, key in keys.items())
            return replace(self.question, shared=SecureAggregation(threshold=threshold, hospitals=parties))
        return replace(self.question, team=self._team(len(keys), root_of([*map(bytes.fromhex, keys.values())])))

    def _unmet(self, size: int) -> DeviceQuestion:
        """The same of devices that nobody has met, to say beforehand what it would be."""
        if self._is_team(size):
            return replace(self.question, team=self._team(size, "0" * 64))
        return self._shared_by({f"device {place}": f"{place:064x}" for place in range(size)})

    def _team(self, size: int, root: str) -> TeamSum:
        threshold = self._threshold(size)
        colluding = math.floor((COLLUDING if self.colluding is None else self.colluding) * size)
        return TeamSum(root=root, devices=size, threshold=threshold, colluding=min(colluding, threshold - 2))

    def _is_team(self, size: int) -> bool:
        return self.circle is None and size > LARGEST_CIRCLE

    def _threshold(self, size: int) -> int:
        if self.threshold is None:
            return size * 2 // 3 + 1
        return max(size // 2 + 1, math.ceil(self.threshold * size))

    def _sizes(self, devices: int) -> list[int]:
        """Of sums, nearly equal."""
        circle = self.circle or (MOST_DEVICES if devices > LARGEST_CIRCLE else LARGEST_CIRCLE)
        circles = max(1, math.ceil(devices / circle))
        if devices // circles < 2 <= devices:  # of circles of two, one takes the odd device
            circles = devices // 2
        return [devices // circles + (place < devices % circles) for place in range(circles)]

    def _margins(self, devices: int, shares: float) -> dict[str, float]:
        return {
            column.name: margin(self.question, column, devices=devices, shares=shares)
            for column in self.question.columns
        }

    def _margin(self, column: Column, devices: int) -> float:
        return margin(self.question, column, devices=devices, shares=devices)


class Answering:
    """Devices in this process, or behind anything that takes a text and returns one. An error is no answer."""

    def __init__(self, devices: Mapping[str, Callable[[str], str]]) -> None:
        self._devices = dict(devices)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all of them."""
        return tuple(self._devices)

    def ask(self, texts: Mapping[str, str]) -> dict[str, str]:
        """One after the other."""
        answers = {}
        for name, text in texts.items():
            try:
                answers[name] = self._devices[name](text)
            except OSError:  # of a process that is gone
                continue
        return answers


def question_text(question: DeviceQuestion) -> str:
    """A question as a person reads and accepts it, in a file."""
    return canonical({"question": question.as_dict()}).decode()


def _columns(columns: Sequence[str], bounds: Any) -> tuple[Column, ...]:
    names = (columns,) if isinstance(columns, str) else tuple(columns)
    pairs: list[Any] = [bounds.get(name) for name in names] if isinstance(bounds, Mapping) else list(bounds)
    if len(pairs) != len(names) or not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs):
        raise InvalidRequest(
            f"bounds={str(bounds)[:80]} does not hold a lowest and a highest value for each column. Write it as"
            f" {{{names[0] if names else 'heart_rate'!r}: (40, 200)}}."
        )
    return tuple(Column(name=name, low=low, high=high) for name, (low, high) in zip(names, pairs, strict=True))
