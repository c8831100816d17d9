"""A schedule of faults: made from a seed, written and read as ndjson. Carrying it out is in `injecting.py`.

Offsets are real seconds from the schedule's start. The same seed, length and platform give the same schedule.
"""

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

LEASE_S = 3.0
SKEW_S = 1.5  # real; 90 simulated seconds at speed 60, of ramp windows of 300
DAGSTER = ("dagster-daemon", "dagster-control", "dagster-analytics", "run-server", "tick-launcher")
ALLOCATORS = ("allocator-a", "allocator-b")
ORDERS = (  # the more often the more there are
    *("curtail", "release", "lock", "unlock", "override", "stop_all", "award", "deploy", "recall"),
    *("release", "release", "curtail", "override", "award"),
)


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to whom, when, for how long and how much; `kind` `order` is an operator's word and no fault."""

    at_s: float
    kind: str
    target: str
    for_s: float = 0.0
    amount: float = 0.0

    @property
    def is_fault(self) -> bool:
        """Counts as a process fault."""
        return self.kind != "order"


class Chance(NamedTuple):
    """How often relative to the rest, to whom, for how long and how much."""

    weight: float
    kind: str
    targets: tuple[str, ...]
    for_s: tuple[float, float] = (0.0, 0.0)
    amount: tuple[float, float] = (0.0, 0.0)


def chances(gateways: tuple[str, ...], facilities: tuple[str, ...]) -> list[Chance]:
    """What can happen on a platform of so many gateways; `order` targets are `what:facility`."""
    orders = tuple(f"{what}:{facility}" for what in ORDERS for facility in facilities)
    return [
        Chance(14, "kill", ALLOCATORS),
        Chance(12, "kill", gateways),
        Chance(4, "kill", ("feed",)),
        Chance(3, "kill", ("collector", "alerts")),
        Chance(3, "kill", ("world",)),
        Chance(2, "kill", ("postgres",)),
        Chance(3, "kill", DAGSTER),
        Chance(10, "stop", (*ALLOCATORS, *gateways, "feed"), (0.2, LEASE_S - 0.6)),
        Chance(10, "stop", (*ALLOCATORS, *gateways), (LEASE_S + 0.5, LEASE_S * 3)),
        Chance(2, "stop", ("postgres", "world"), (0.3, 4.0)),
        Chance(2, "restart-fast", ("postgres",)),
        Chance(2, "restart-immediate", ("postgres",)),
        Chance(8, "cut", gateways, (0.5, 8.0)),
        Chance(0.5, "cut", gateways, (82.0, 95.0)),  # long enough for the fallback plan
        Chance(6, "hole", gateways, (0.5, 8.0)),
        Chance(6, "slow", gateways, (2.0, 10.0), (0.02, 0.4)),
        Chance(6, "lossy", gateways, (2.0, 10.0), (0.02, 0.2)),
        Chance(3, "full-disk", gateways, (1.0, 5.0)),
        Chance(1, "full-disk", ("postgres",), (1.0, 4.0)),
        Chance(3, "skew", (*ALLOCATORS, *gateways), (0.0, 0.0), (-SKEW_S, SKEW_S)),
        Chance(25, "order", orders, (0.0, 0.0), (0.0, 1.0)),
    ]


def make_schedule(
    seed: int, seconds: float, every_s: float, gateways: tuple[str, ...], facilities: tuple[str, ...]
) -> list[Fault]:
    """Faults at exponential gaps of `every_s` on average (orders come on top), ordered by their instants.

    >>> first = make_schedule(7, 60, 2, ("gateway-1",), ("hou-1",))
    >>> first == make_schedule(7, 60, 2, ("gateway-1",), ("hou-1",)), first == make_schedule(8, 60, 2, ("gateway-1",), ("hou-1",))
    (True, False)
    """
    rng, kinds, schedule = random.Random(seed), chances(gateways, facilities), []
    share = sum(c.weight for c in kinds if c.kind != "order") / sum(c.weight for c in kinds)
    at_s = rng.expovariate(1 / (every_s * share))
    while at_s < seconds:
        chance = rng.choices(kinds, [c.weight for c in kinds])[0]
        for_s, amount = rng.uniform(*chance.for_s), rng.uniform(*chance.amount)
        schedule.append(
            Fault(round(at_s, 3), chance.kind, rng.choice(chance.targets), round(for_s, 3), round(amount, 3))
        )
        at_s += rng.expovariate(1 / (every_s * share))
    return schedule


def write_schedule(path: Path, schedule: Sequence[Fault]) -> None:
    """One fault a line."""
    path.write_text("".join(f"{line}\n" for line in lines_of(schedule)))


def lines_of(schedule: Iterable[Fault]) -> Iterator[str]:
    """As ndjson."""
    return (json.dumps(asdict(fault)) for fault in schedule)


def read_schedule(path: Path) -> list[Fault]:
    """The schedule of a file.

    Raises:
        ValueError: a line that is none.
    """
    try:
        return [Fault(**json.loads(line)) for line in path.read_text().splitlines() if line.strip()]
    except TypeError as error:
        raise ValueError(f"{path} is no schedule: {error}") from None
