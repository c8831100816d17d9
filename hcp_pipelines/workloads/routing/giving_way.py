"""Which running work gives way to more urgent work: the cheapest set in dollars of less urgent, interruptible work (EX-21).

Source of the rule: ER-44 (cheapest, not first; the freed devices are for the urgent work). Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np

from hcp_pipelines.workloads.routing.needs import Need
from hcp_pipelines.workloads.routing.packing import Free, Ints, pack
from hcp_pipelines.workloads.routing.router import Router

NONE_SUITABLE = "no suitable workload found for preemption"


@dataclass(frozen=True, slots=True)
class Candidate:
    """Work that might give way; `usd` is what that costs."""

    workload_id: UUID
    priority: int
    state: int
    slots: Ints
    usd: float


@dataclass(frozen=True, slots=True)
class GivesWay:
    """Who gives way in which group, and what it costs altogether."""

    group: int
    victims: tuple[Candidate, ...]
    usd: float


def give_way(router: Router, need: Need, running: Mapping[int, Sequence[Candidate]]) -> GivesWay | None:
    """The cheapest set, over all groups that would do; None: EX-23's words.

    `running` has by group the work that may be interrupted.
    """
    kind, best = router.kind(need.place), None
    for g in np.flatnonzero(kind.open).tolist():
        weaker = [one for one in running.get(g, ()) if one.priority > need.priority]
        found = _within(router, need, g, weaker) if weaker else None
        if found is not None and (best is None or found.usd < best.usd):
            best = found
    return best


def _within(router: Router, need: Need, g: int, weaker: Sequence[Candidate]) -> GivesWay | None:
    """By dollars a device, until the gang fits; then whoever need not go after all stays, the dearest first.

    One node is looked at after the other where one is enough: what is cheap on many nodes makes room on none.
    """
    size, count = router.room.of[g].topology.node, need.place.gpu_count
    sets = [weaker]
    if count <= size:
        on_node: dict[int, list[Candidate]] = {}
        for one in weaker:
            for node in np.unique(one.slots // size).tolist():
                on_node.setdefault(node, []).append(one)
        sets = list(on_node.values())
    found = [tried for some in sets if (tried := _freed(router, need, g, some)) is not None]
    return min(found, key=lambda one: one.usd, default=None)


def _freed(router: Router, need: Need, g: int, weaker: Sequence[Candidate]) -> GivesWay | None:
    ordered = sorted(weaker, key=lambda one: (one.usd / len(one.slots), str(one.workload_id)))
    held = np.cumsum([len(one.slots) for one in ordered])
    missing = need.place.gpu_count - int(router.room.free[g])
    chosen = ordered[: int(np.searchsorted(held, missing)) + 1]
    while not _fits(router, need, g, chosen):
        if len(chosen) == len(ordered):
            return None
        chosen = ordered[: min(len(ordered), max(len(chosen) + 1, len(chosen) * 5 // 4))]
    for one in sorted(chosen, key=lambda one: -one.usd):
        rest = [other for other in chosen if other is not one]
        if rest and _fits(router, need, g, rest):
            chosen = rest
    return GivesWay(g, tuple(chosen), sum(one.usd for one in chosen))


def _fits(router: Router, need: Need, g: int, chosen: Sequence[Candidate]) -> bool:
    """Whether the work fits once these have gone: near enough, and within what may work in its state."""
    steps = router.room.reach[g]
    own, working = steps[need.place.state], router.room.working[g].copy()
    for one in chosen:
        working -= len(one.slots) * steps[one.state]
    if (working + need.place.gpu_count > router.market.bounds[g])[own].any():
        return False
    room: Free = router.room.of[g].copy()
    for one in chosen:
        room.give(one.slots)
    return pack(room, need.place.gpu_count, need.place.colocation) is not None
