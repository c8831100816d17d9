"""The router: hard filters, scores, and the best place that has room; with the reason why here, and why not there (WL-23…WL-31).

Whatever does not change within a batch (filters, latency, cost, profitability) is looked at once for each kind of work.
"""

from dataclasses import dataclass, field
from uuid import UUID

import numpy as np

from hcp_pipelines.domain.modes import DeviceState, ResourceType
from hcp_pipelines.workloads.routing.filters import why_not
from hcp_pipelines.workloads.routing.needs import Need, Place
from hcp_pipelines.workloads.routing.packing import Bools, Ints, pack
from hcp_pipelines.workloads.routing.room import MANY, Floats, Market, Room
from hcp_pipelines.workloads.routing.scoring import (
    Estimates,
    Weights,
    cost_score,
    latency_ms,
    latency_score,
    profitability_score,
)

NO_RESOURCES = "no suitable resources available"
WORDS_MOST = 1_000
Explanation = tuple[tuple[str, float | str], ...]


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings of routing."""

    weights: Weights = field(default_factory=Weights)
    estimates: Estimates = field(default_factory=Estimates)
    realtime_spare_fraction: float = 0.05  # of a group that serves real time, which nothing else gets


@dataclass(frozen=True, slots=True)
class Routed:
    """A place: group and slots in it, and what is recorded of the decision (WL-24). `confidence` is 0–1 (ER-22).

    It is the share of the score's weight that rests on something known of this work and place, rather than on a default.
    """

    need: Need
    group: int
    slots: Ints
    score: float
    cost_usd_per_hour: float
    latency_ms: float
    utilization: float
    usd_per_gpu_hour: float | None
    confidence: float
    explanation: Explanation

    @property
    def reason(self) -> str:
        """As WL-31 words it."""
        return (
            f"Latency: {self.latency_ms:.0f}ms, Cost: ${self.cost_usd_per_hour:.2f}/hr, "
            f"Utilization: {100 * self.utilization:.1f}%"
        )


@dataclass(frozen=True, slots=True)
class Unplaced:
    """No place now; `explanation` says of each group why."""

    need: Need
    reason: str
    explanation: Explanation


@dataclass(frozen=True, slots=True)
class Kind:
    """What holds for all work of one kind: who is out for good and why, and the score without availability."""

    why_not: tuple[str, ...]
    open: Bools
    score: Floats
    cost: Floats  # $/h of all its devices
    latency: Floats
    rate: Floats  # $ per device-hour, NaN: not known
    confidence: float


class Router:
    """Routes work within one view of the market; `room` is changed by whoever takes what was found."""

    def __init__(self, room: Room, market: Market, rules: Rules) -> None:
        self.room, self.market, self._rules = room, market, rules
        self._kinds: dict[Place, Kind] = {}
        self._explained: dict[Place, Explanation] = {}
        spare = np.ceil(rules.realtime_spare_fraction * room.devices).astype(np.int64)
        self._spare: Ints = np.where(room.serves_realtime, spare, 0)
        self.kept_for: dict[int, UUID] = {}  # groups whose free devices wait for one large piece of work

    def route(self, need: Need) -> Routed | Unplaced:
        """The best place, or why there is none; nothing is taken."""
        place, kind = need.place, self.kind(need.place)
        fits = kind.open & (self._left(place) >= place.gpu_count)
        for g, owner in self.kept_for.items():
            if owner != need.workload_id:
                fits[g] = False
        if fits.any():
            total = self._total(kind)
            for g in np.flatnonzero(fits)[np.argsort(-total[fits], kind="stable")].tolist():
                slots = self.room.where_it_sleeps(need.workload_id, g)
                slots = pack(self.room.of[g], place.gpu_count, place.colocation) if slots is None else slots
                if slots is not None:
                    return self._routed(need, kind, g, slots, total)
        return Unplaced(need, self._why(kind), self.explain(need, kind))

    def begin_batch(self) -> None:
        """From now on explanations say how things are now; within a batch those of one kind of work are the first one's."""
        self._explained.clear()

    def kind(self, place: Place) -> Kind:
        """What holds for this kind of work."""
        found = self._kinds.get(place)
        if found is None:
            found = self._kinds[place] = self._look(place)
        return found

    def _explain_once(self, need: Need, kind: Kind, chosen: int) -> Explanation:
        found = self._explained.get(need.place)
        if found is None:
            found = self._explained[need.place] = self.explain(need, kind, chosen)
        return found

    def explain(self, need: Need, kind: Kind, chosen: int | None = None) -> Explanation:
        """Of each group its score, or why it is none: `facility/group`, then number or words."""
        left, total = self._left(need.place).tolist(), self._total(kind).tolist()
        return tuple(
            (f"{group.facility_id}/{group.group_id}", self._word(need, g, kind, left[g], round(total[g], 2), chosen))
            for g, group in enumerate(self.room.groups)
        )

    def _word(self, need: Need, g: int, kind: Kind, left: int, score: float, chosen: int | None) -> float | str:
        if kind.why_not[g]:
            group = self.room.groups[g]
            return f"{group.closed} {group.closed_by}".strip() if kind.why_not[g] == group.closed else kind.why_not[g]
        if g == chosen:
            return score
        if left < need.place.gpu_count:
            return f"{left} to be had of {need.place.gpu_count}: {self._scarce(need.place, g)}"
        if self.kept_for.get(g, need.workload_id) != need.workload_id:
            return f"kept for {self.kept_for[g]}, which is large and has waited long"
        if chosen is None:
            return f"{left} are free, but not {need.place.gpu_count} so near to each other ({need.place.colocation})"
        return score

    def _scarce(self, place: Place, g: int) -> str:
        bounds = np.where(self.room.reach[g, place.state], self.market.bounds[g], MANY)
        step = int((bounds - self.room.working[g]).argmin())
        if bounds[step] - self.room.working[g, step] < self.room.free[g]:
            most = f"the policy lets {bounds[step]} work as {DeviceState(step).label} or above"
            return self.market.why_none[g] or f"{most}, {self.room.working[g, step]} do"
        return f"{int(self.room.free[g])} of {int(self.room.devices[g])} are free"

    def _why(self, kind: Kind) -> str:
        if kind.open.any():
            return f"{NO_RESOURCES}: all that would do is taken"
        said = sorted({words for words in kind.why_not if words and not words.startswith("has ")})
        return f"{NO_RESOURCES}: {'; '.join(said)}"[:WORDS_MOST] if said else NO_RESOURCES

    def _left(self, place: Place) -> Ints:
        left = self.room.left(self.market, place.state)
        if place.state is DeviceState.INFERENCE_REALTIME:
            return left
        spared: Ints = np.minimum(left, np.maximum(self.room.free - self._spare, 0))
        return spared

    def _total(self, kind: Kind) -> Floats:
        return kind.score + self._rules.weights.availability * 100 * self.room.free / np.maximum(self.room.devices, 1)

    def _routed(self, need: Need, kind: Kind, g: int, slots: Ints, total: Floats) -> Routed:
        rate = float(kind.rate[g])
        return Routed(
            need=need,
            group=g,
            slots=slots,
            score=float(total[g]),
            cost_usd_per_hour=float(kind.cost[g]),
            latency_ms=float(kind.latency[g]),
            utilization=1 - float(self.room.free[g]) / max(float(self.room.devices[g]), 1.0),
            usd_per_gpu_hour=None if np.isnan(rate) else rate,
            confidence=kind.confidence,
            explanation=self._explain_once(need, kind, g),
        )

    def _look(self, place: Place) -> Kind:
        groups, market, weights = self.room.groups, self.market, self._rules.weights
        latency = latency_ms(groups, place.client, self._rules.estimates)
        power_kw = np.array([group.power_kw.get(int(place.state), np.nan) for group in groups])
        each = power_kw * market.price_usd_per_mwh / 1000
        cost = each * place.gpu_count
        rate = market.revenue_usd_per_hour[:, place.state]
        score = (
            weights.latency * latency_score(latency, place.max_latency_ms)
            + weights.cost * cost_score(np.nan_to_num(cost, nan=np.inf))
            + weights.profitability * profitability_score(rate, np.nan_to_num(each))
        )
        closed = tuple(
            why_not(group, place, float(latency[g]), float(rate[g]), float(each[g])) for g, group in enumerate(groups)
        )
        return Kind(
            closed, np.array([not words for words in closed], dtype=bool), score, cost, latency, rate,
            _confidence(place, weights, bool(np.isfinite(rate).any())),
        )  # fmt: skip


def _confidence(place: Place, weights: Weights, knows_rate: bool) -> float:
    """The share of the weights that rests on something known: where the client is, what the market pays."""
    whole = weights.latency + weights.cost + weights.availability + weights.profitability
    known = weights.cost + weights.availability
    known += weights.latency if place.client is not None and place.max_latency_ms is not None else 0.0
    known += weights.profitability if knows_rate and place.kind is ResourceType.GPU else 0.0
    return known / whole if whole else 0.0
