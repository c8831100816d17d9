"""Which slots hang behind what: feeders, and the levels above and below them that `world.yaml` names.

Used for limits, breakers and correlated faults. Without a tree a site has its feeders and nothing else. No physics here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from simulators.power_plant.config import FeederConfig, NodeConfig
from simulators.streams import IntArray

if TYPE_CHECKING:
    from simulators.settings import SiteConfig

FEEDER = "feeder"
FIRST_BREAKER_UNIT = 10

Runs = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Point:
    """A feeder or a node. `runs` are half-open runs of slots, apart and in order; `unit` is its breaker's Modbus unit."""

    name: str
    kind: str
    runs: Runs
    limit_w: float | None
    is_interruptible: bool
    unit: int | None

    @property
    def slots(self) -> IntArray:
        """Every slot behind it, rising."""
        return np.concatenate([np.arange(a, b) for a, b in self.runs] or [np.zeros(0, dtype=np.int64)])

    def sum_of(self, values: npt.NDArray[np.float32] | npt.NDArray[np.float64]) -> float:
        """Sum of one value a slot over the slots behind it, in double precision."""
        return float(sum(values[a:b].sum(dtype=np.float64) for a, b in self.runs))


class Topology:
    """All points of one site, feeders first, as `world.yaml` lists them."""

    def __init__(self, config: "SiteConfig") -> None:
        self._config = config
        self._nodes = {node.node: node for node in config.plant.topology}
        units = iter(range(FIRST_BREAKER_UNIT, 256))
        points = [self._feeder(feeder, next(units)) for feeder in config.feeders]
        points += [self._node(node, next(units) if node.limit_w is not None else None) for node in self._nodes.values()]
        self.points = {point.name: point for point in points}

    @property
    def breakers(self) -> list[Point]:
        """The points that have a breaker, by Modbus unit."""
        return [point for point in self.points.values() if point.unit is not None]

    def of_kind(self, kind: str) -> list[Point]:
        """Points of one level: `feeder`, or a node's kind."""
        return [point for point in self.points.values() if point.kind == kind]

    def _feeder(self, feeder: FeederConfig, unit: int) -> Point:
        runs = _merged(self._runs_of_feeder(feeder.feeder))
        return Point(feeder.feeder, FEEDER, runs, feeder.limit_w, feeder.is_interruptible, unit)

    def _node(self, node: NodeConfig, unit: int | None) -> Point:
        return Point(node.node, node.kind, _merged(self._runs_of_node(node)), node.limit_w, False, unit)

    def _runs_of_feeder(self, name: str) -> Iterator[tuple[int, int]]:
        return ((group.first_slot, group.end_slot) for group in self._config.groups if group.feeder == name)

    def _runs_of_node(self, node: NodeConfig) -> Iterator[tuple[int, int]]:
        if node.first_slot is not None and node.devices is not None:
            yield node.first_slot, node.first_slot + node.devices
        for feeder in node.feeders:
            yield from self._runs_of_feeder(feeder)
        for child in self._nodes.values():
            if child.parent == node.node:
                yield from self._runs_of_node(child)


def _merged(runs: Iterator[tuple[int, int]]) -> Runs:
    """The same slots as runs that are apart and in order.

    >>> _merged(iter([(5, 9), (0, 3), (8, 12)]))
    ((0, 3), (5, 12))
    """
    merged: list[tuple[int, int]] = []
    for first, end in sorted(runs):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((first, end))
    return tuple(merged)
