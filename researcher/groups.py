"""A statistic answered apart for disjoint groups, per hospital and combined."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from policies.errors import InvalidRequest
from policies.text import visible
from researcher.figures import Cells, Estimate, Quantiles

Plain = Estimate | Quantiles | Cells


@dataclass(frozen=True, eq=False)
class Grouped:
    """One statistic by groups: `grouped["icu"]`, or `grouped["icu", "yes"]` of two columns.

    Args:
      columns: that the groups are made by.
      names: of every group, a label per column.
      parts: the statistic of each.
    """

    columns: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]
    parts: tuple[Plain, ...]

    def __getitem__(self, labels: str | tuple[str, ...]) -> Plain:
        """The statistic of one group. Raises `InvalidRequest` where there is none of that name."""
        wanted = (labels,) if isinstance(labels, str) else labels
        if wanted not in self.names:
            known = "; ".join(", ".join(name) for name in self.names[:20])
            raise InvalidRequest(f"There is no group {labels!r} by {', '.join(self.columns)}. There are {known}.")
        return self.parts[self.names.index(wanted)]

    def __iter__(self) -> Iterator[tuple[tuple[str, ...], Plain]]:
        return iter(zip(self.names, self.parts, strict=True))

    def __len__(self) -> int:
        return len(self.parts)

    def __str__(self) -> str:
        lines = []
        for name, part in self:
            text = str(part)
            label = visible(", ".join(name))
            lines.append(f"{label}:" + (f"\n{text}" if "\n" in text else f" {text}"))
        return "\n".join([f"by {', '.join(self.columns)}", *lines])


def combine_groups(
    hospitals: Mapping[str, Mapping[str, Any]], combine: Callable[[Mapping[str, Mapping[str, Any]]], Mapping[str, Any]]
) -> dict[str, Any]:
    """Every group of every statistic over all hospitals together, by what combines those of one group."""
    first = next(iter(hospitals.values()))
    keys = [key for key in first if all(key in statistics for statistics in hospitals.values())]
    if not keys:
        return {}
    shape = first[keys[0]]
    by_group = [
        combine({name: {key: found[key].parts[place] for key in keys} for name, found in hospitals.items()})
        for place in range(len(shape))
    ]
    return {key: Grouped(shape.columns, shape.names, tuple(joint[key] for joint in by_group)) for key in keys}
