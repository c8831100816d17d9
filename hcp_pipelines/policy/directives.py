"""Who may say what a facility does, and in which order (DESIGN §7.5). Pure.

*What should it do, if it may?* economics < demand response < operator override < grid deployment. *May it be on?* operator
curtailment, stop-all, grid-mandated shed, lock-outs: any no wins. `direct` turns the targets of policy or fallback plan into
those that hold with all of it; which slots carry them out, and how many of them now, is in `directed.py`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from hcp_pipelines.domain.modes import DeviceState, ReasonCode
from hcp_pipelines.policy.arrays import Bools, Floats, Ints
from hcp_pipelines.policy.waves import FacilityShape

_NOTHING = 1e-9
TOLD_WITHIN_S = 3.0  # from an order to the last of its devices: so much less is left for them to go down in (setting)


class Kind(IntEnum):
    """Kinds of directives; the higher ones are applied later, on top of the lower."""

    RESPONSE = 10  # demand response
    OVERRIDE = 20
    DEPLOY = 30  # grid deployment
    CURTAIL = 40  # an operator's
    STOP = 50
    SHED = 60  # grid-mandated

    @property
    def is_exempt(self) -> bool:
        """Whether its reductions are booked but never delayed by ramps or minimum up times (DESIGN §7.6)."""
        return self >= Kind.DEPLOY

    @property
    def reason(self) -> ReasonCode:
        """The reason code of its switches."""
        return _REASONS[self]


_REASONS = {
    Kind.RESPONSE: ReasonCode.DEMAND_RESPONSE,
    Kind.OVERRIDE: ReasonCode.OPERATOR_OVERRIDE,
    Kind.DEPLOY: ReasonCode.GRID_DEPLOYMENT,
    Kind.CURTAIL: ReasonCode.OPERATOR_CURTAILMENT,
    Kind.STOP: ReasonCode.EMERGENCY_STOP,
    Kind.SHED: ReasonCode.GRID_DEPLOYMENT,
}


@dataclass(frozen=True, slots=True)
class Directive:
    """Somebody's word about a facility: a state for devices of a group (OVERRIDE), or a limit at the meter (all others).

    `cap_mw` is all in, of the facility or of one feeder; `within_s` says in how much time it has to hold.
    """

    directive_id: str
    kind: Kind
    actor: str
    detail: str = ""
    group_id: str = ""
    state: DeviceState = DeviceState.CURTAILED
    devices: int | None = None  # so many at least; None: all
    cap_mw: float = math.inf
    feeder_id: str = ""  # empty: the facility
    within_s: float = math.inf


FLOOR = Directive("floor", Kind.RESPONSE, "obligation", "armed: interruptible load that must be on")


@dataclass(frozen=True)
class Load:
    """What reductions are judged by.

    Attributes:
        value: [g, s] $/h of one device in each state, revenue less power bought; what a reduction forgoes.
        fall_s: [g, s] seconds that a device usually takes to a state from above it.
        fixed_mw: all-in MW by feeder of devices that can't be commanded now, but draw.
        sheddable: [g] groups whose load counts towards a floor.
        emptying: [g, s] devices that are put to sleep for maintenance: no part of the targets, but the first that a limit takes.
    """

    value: Floats
    fall_s: Floats
    fixed_mw: Mapping[str, float] = field(default_factory=dict)
    sheddable: Bools | None = None
    emptying: Ints | None = None


@dataclass(frozen=True)
class Directed:
    """Targets with every directive, and by group the one that shaped them last; `at_once` are those that nothing delays."""

    targets: Ints
    at_once: Ints
    by_group: Mapping[int, Directive]
    exempt_by_group: Mapping[int, Directive]
    limits: tuple[Directive, ...] = ()
    unmet: tuple[str, ...] = ()  # limits that can't be kept, because everything that can go is gone
    floor_mw: float = 0.0
    sheddable: Bools | None = None  # [g] groups whose load counts towards the floor; None: all
    emptied_at_once: Ints | None = (
        None  # [g, s] of the devices that maintenance empties, what nothing delays makes of them
    )
    emptied_by_group: Mapping[int, Directive] = field(default_factory=dict)


def direct(
    shape: FacilityShape,
    base: Ints,
    present: Ints,
    directives: Iterable[Directive],
    load: Load,
    floor_mw: float = 0.0,
) -> Directed:
    """Targets `[g, s]` that hold with all directives, from those of policy or fallback plan.

    `floor_mw` is what armed obligations want to be able to shed of the sheddable groups: overrides don't go below it, limits do.
    """
    ordered = sorted(directives, key=lambda d: (d.kind, d.directive_id))
    targets = _Targets(shape, base.copy(), present, load)
    for directive in ordered:
        if directive.kind > Kind.OVERRIDE:
            break
        targets.apply(directive)
    targets.raise_to(floor_mw)
    for directive in ordered:
        if directive.kind > Kind.OVERRIDE:
            targets.apply(directive)
    at_once = _Targets(shape, present.copy(), present, load)
    for directive in ordered:
        if directive.kind.is_exempt:
            at_once.apply(directive)
    limits = tuple(d for d in ordered if d.kind is not Kind.OVERRIDE)
    return Directed(
        targets.counts, at_once.counts, targets.by_group, at_once.by_group, limits, tuple(targets.unmet), floor_mw,
        load.sheddable, at_once.emptying, at_once.emptied_by_group,
    )  # fmt: skip


class _Targets:
    """Counts `[g, s]` under change."""

    def __init__(self, shape: FacilityShape, counts: Ints, present: Ints, load: Load) -> None:
        self.counts, self.by_group = counts, dict[int, Directive]()
        self.emptying, self.emptied_by_group = np.zeros_like(counts), dict[int, Directive]()
        if load.emptying is not None:
            self.emptying = load.emptying.copy()
        self.unmet: list[str] = []
        self._shape, self._present, self._load = shape, present, load

    def apply(self, directive: Directive) -> None:
        """Let one directive have its way."""
        if directive.kind is Kind.OVERRIDE:
            self._override(directive)
        else:
            self._limit(directive)

    def raise_to(self, floor_mw: float) -> None:
        """Put sheddable devices on until so many MW could go: those first that lose the least."""
        groups = self._sheddable()
        if floor_mw <= 0:
            return
        lacking = floor_mw - self._above_lowest_mw(groups)
        for g, low, high, each in self._steps(groups, rising=True):
            if lacking <= _NOTHING:
                return
            devices = min(int(self.counts[g, low]), math.ceil(lacking / each - _NOTHING))
            moved = _move(self.counts, g, low, high, devices)
            lacking -= moved * each
            if moved:
                self.by_group[g] = FLOOR

    def _override(self, directive: Directive) -> None:
        if directive.group_id not in self._shape.group_ids:
            return  # of an earlier inventory: it ends with its time
        g, state = self._shape.group_ids.index(directive.group_id), int(directive.state)
        ladder = self._shape.ladders[g]
        if state not in ladder:
            return
        have = int(self.counts[g].sum())
        lacking = min(have if directive.devices is None else directive.devices, have) - int(self.counts[g, state])
        order = ladder[::-1] if ladder.index(state) * 2 < len(ladder) else ladder  # the farthest first
        for other in (s for s in (*order, *_off(self.counts[g], ladder)) if s != state):
            lacking -= _move(self.counts, g, other, state, min(int(self.counts[g, other]), max(lacking, 0)))
        self.by_group[g] = directive

    def _limit(self, directive: Directive) -> None:
        groups = self._of_feeder(directive.feeder_id)
        fixed = self._load.fixed_mw
        fixed_mw = fixed.get(directive.feeder_id, 0.0) if directive.feeder_id else sum(fixed.values())
        excess = self._mw(groups) + self._emptying_mw(groups) + fixed_mw - directive.cap_mw
        excess -= self._leave_down(directive, groups, excess)
        for quick in (True, False):  # what settles in time first, then whatever there is
            for is_emptied, (g, high, low, each) in self._reductions(groups):
                if excess <= _NOTHING:
                    return
                if quick and TOLD_WITHIN_S + self._load.fall_s[g, low] > directive.within_s:
                    continue
                counts = self.emptying if is_emptied else self.counts
                devices = min(int(counts[g, high]), math.ceil(excess / each - _NOTHING))
                moved = _move(counts, g, high, low, devices)
                excess -= moved * each
                if moved:
                    (self.emptied_by_group if is_emptied else self.by_group)[g] = directive
        if excess > _NOTHING and math.isfinite(directive.cap_mw):
            self.unmet.append(f"{directive.directive_id}: {excess:.3f} MW above {directive.cap_mw:.3f} MW can't go")

    def _leave_down(self, directive: Directive, groups: Sequence[int], excess: float) -> float:
        """What is down stays down, rather than waking and others going to sleep for it; the MW that this saves."""
        saved = 0.0
        for g, high, low, each in self._steps(groups, rising=False):
            down = min(int(self._present[g, low] - self.counts[g, low]), int(self.counts[g, high]))
            devices = min(down, math.ceil((excess - saved) / each - _NOTHING))
            if devices > 0:
                saved += _move(self.counts, g, high, low, devices) * each
                self.by_group[g] = directive
        return saved

    def _reductions(self, groups: Sequence[int]) -> list[tuple[bool, tuple[int, int, int, float]]]:
        """(is it emptied anyhow, step) in the order in which load goes: first what goes to sleep in any case, all the way."""
        power, found = self._shape.power_mw, []
        for g in groups:
            low = self._shape.ladders[g][0]
            for high in np.flatnonzero(self.emptying[g]).tolist():
                each = float(power[g, high] - power[g, low])
                if each > _NOTHING:
                    found.append((float(self._load.fall_s[g, low]), (g, high, low, each)))
        emptied = [(True, step) for _, step in sorted(found)]
        return [*emptied, *((False, step) for step in self._steps(groups, rising=False))]

    def _steps(self, groups: Sequence[int], *, rising: bool) -> list[tuple[int, int, int, float]]:
        """(group, from, to, MW a device) by what it costs a MW, quick ones first among equals."""
        power, value, found = self._shape.power_mw, self._load.value, []
        for g in groups:
            ladder = self._shape.ladders[g]
            for n, low in enumerate(ladder):
                for high in ladder[n + 1 :]:
                    each = float(power[g, high] - power[g, low])
                    if each <= _NOTHING:
                        continue
                    cost = float(value[g, high] - value[g, low]) / each * (-1 if rising else 1)
                    into = high if rising else low
                    found.append((cost, float(self._load.fall_s[g, into]), g, low, high, each))
        return [(g, low, high, each) if rising else (g, high, low, each) for _, _, g, low, high, each in sorted(found)]

    def _mw(self, groups: Sequence[int]) -> float:
        index = list(groups)
        return float((self.counts[index] * self._shape.power_mw[index]).sum())

    def _emptying_mw(self, groups: Sequence[int]) -> float:
        index = list(groups)
        return float((self.emptying[index] * self._shape.power_mw[index]).sum())

    def _above_lowest_mw(self, groups: Sequence[int]) -> float:
        """What the groups draw beyond what they would in their lowest states: what can be shed of them."""
        power, ladders = self._shape.power_mw, self._shape.ladders
        rest = sum(float(self.counts[g].sum() * power[g, ladders[g][0]]) for g in groups)
        return self._mw(groups) - rest

    def _of_feeder(self, feeder_id: str) -> list[int]:
        return [g for g, f in enumerate(self._shape.feeder_of_group) if not feeder_id or f == feeder_id]

    def _sheddable(self) -> list[int]:
        mask = self._load.sheddable
        every = range(len(self._shape.group_ids))
        return list(every) if mask is None else [g for g in every if mask[g]]


def _move(counts: Ints, g: int, from_state: int, to_state: int, devices: int) -> int:
    counts[g, from_state] -= devices
    counts[g, to_state] += devices
    return devices


def _off(counts: Ints, ladder: Sequence[int]) -> list[int]:
    """States that hold devices and are not on the ladder."""
    return [int(s) for s in np.flatnonzero(counts) if int(s) not in ladder]
