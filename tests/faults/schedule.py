"""What happens to a universe, and when: faults, operators, the grid, new policies. All of it follows from a seed.

A schedule is a plain list, so that a violation can be tried again with less of it (`shrink.py`).
"""

import random
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that is done at a virtual instant, and undone after a while where it can be."""

    at_s: float
    what: str
    target: str  # a facility, a process, or "client>gateway"
    for_s: float = 0.0
    amount: float = 0.0

    def __str__(self) -> str:
        more = f" for {self.for_s:.1f} s" if self.for_s else ""
        amount = f" ({self.amount:.2f})" if self.amount else ""
        return f"{self.at_s:8.2f} s  {self.what} {self.target}{amount}{more}"


class Names(NamedTuple):
    """Who and what there is."""

    facilities: tuple[str, ...]
    allocators: tuple[str, ...]
    gateways: tuple[str, ...]


class Chance(NamedTuple):
    """How often something happens, relative to the rest; to whom; for how long; how much."""

    weight: float
    target: str  # facility, allocator, gateway, link, all
    for_s: tuple[float, float] = (0.0, 0.0)
    amount: tuple[float, float] = (0.0, 0.0)


CHANCES = {
    "kill allocator": Chance(4, "allocator", (0.5, 6)),
    "pause allocator": Chance(5, "allocator", (0.5, 9)),
    "kill gateway": Chance(3, "gateway", (0.5, 5)),
    "pause gateway": Chance(3, "gateway", (0.5, 6)),
    "cut link": Chance(5, "link", (0.5, 15)),
    "reset link": Chance(4, "link"),
    "slow link": Chance(4, "link", (2, 15), (0.05, 1.5)),
    "deliver twice": Chance(3, "link", (5, 30), (0.1, 10)),
    "repeat an old command": Chance(5, "facility"),
    "isolate gateway": Chance(1.5, "gateway", (40, 100)),
    "stop database": Chance(3, "all", (0.3, 8)),
    "hang database": Chance(2, "all", (0.3, 6)),
    "lose replies": Chance(3, "all", (2, 10), (0.1, 0.5)),
    "lose requests": Chance(3, "all", (2, 10), (0.1, 0.5)),
    "slow commits": Chance(2, "all", (2, 15), (0.5, 3.0)),
    "unheard commits": Chance(1, "all", (2, 15), (0.5, 3.0)),
    "lose notifications": Chance(2, "all", (5, 30), (0.3, 1.0)),
    "fill disk": Chance(2, "facility", (1, 8)),
    "slow disk": Chance(2, "facility", (2, 10), (0.1, 6)),
    "cut devices": Chance(2, "facility", (1, 6)),
    "silence devices": Chance(1, "facility", (1, 6)),
    "devices stuck": Chance(1.5, "facility", (20, 90), (1, 4)),
    "devices lie": Chance(1.5, "facility", (20, 90), (1, 4)),
    "stop prices": Chance(0.8, "all", (50, 130)),
}
ORDERS = {
    "policy": Chance(10, "facility"),
    "old policy": Chance(2, "facility"),
    "lock": Chance(5, "facility", (10, 60), (0, 1)),
    "curtail": Chance(3, "facility", (10, 40), (0.1, 0.9)),
    "stop all": Chance(1, "facility", (10, 30)),
    "override": Chance(3, "facility", (10, 40)),
    "sell reserve": Chance(3, "facility", (60, 120), (0.3, 0.7)),
}
FAULT_EACH_S, ORDER_EACH_S = 7.0, 6.0


def make_schedule(seed: str, names: Names, lasts_s: float) -> list[Happening]:
    """What a seed has in store."""
    rng = random.Random(f"{seed}/schedule")
    found = [*_draw(rng, CHANCES, FAULT_EACH_S, names, lasts_s), *_draw(rng, ORDERS, ORDER_EACH_S, names, lasts_s)]
    return sorted(found, key=lambda h: (h.at_s, h.what, h.target))


def _draw(
    rng: random.Random, chances: dict[str, Chance], each_s: float, names: Names, lasts_s: float
) -> list[Happening]:
    found, at_s = [], rng.expovariate(1 / each_s)
    while at_s < lasts_s:
        what = rng.choices(list(chances), [c.weight for c in chances.values()])[0]
        chance = chances[what]
        for_s = min(rng.uniform(*chance.for_s), max(lasts_s - at_s, 0.1)) if chance.for_s[1] else 0.0
        found.append(
            Happening(
                round(at_s, 3), what, _target(rng, chance.target, names), round(for_s, 3), rng.uniform(*chance.amount)
            )
        )
        at_s += rng.expovariate(1 / each_s)
    return found


def _target(rng: random.Random, kind: str, names: Names) -> str:
    match kind:
        case "facility":
            return rng.choice(names.facilities)
        case "allocator":
            return rng.choice(names.allocators)
        case "gateway":
            return rng.choice(names.gateways)
        case "link":
            return f"{rng.choice(names.allocators)}>{rng.choice(names.gateways)}"
        case _:
            return "all"
