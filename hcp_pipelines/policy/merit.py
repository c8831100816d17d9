"""From wanted ladder steps to devices: best first, as far as feeders, site and the floor allow. Pure.

Each *part* is a run of devices of one group's step that share a strike: what is on counts with its off-strike, what is
off with its on-strike. Parts are taken in falling order of strike, each as far as it fits. A rising price only takes
parts off the end of that order, so that no step's load, and not the total, ever rises with the price (DESIGN §6 b); and
a device that is on gives its place only to one that is worth more by the whole band.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hcp_pipelines.policy.arrays import Bools, CompiledPolicy, Floats, Ints

_EPSILON_MW = 1e-9
_FITS = 1e-9


class Part(NamedTuple):
    """Devices of one step; sorts with the best first, what is on before what is off, a lower step before a higher one."""

    minus_strike: float
    is_new: bool
    order: int
    step: int
    group: int
    devices: int
    is_wanted: bool


@dataclass(frozen=True)
class Strikes:
    """Per block, at the present indices and price: the strikes, and whether it must or may be on."""

    on: Floats
    off: Floats
    must: Bools
    may: Bools


@dataclass(frozen=True)
class Choice:
    """Devices by group and state, and the names of the limits that bound."""

    targets: Ints  # [g, s]
    binding: tuple[str, ...]


class _Run(NamedTuple):
    """Positions of a step up to `end`, all alike. Position n is the n-th device to be on in its group."""

    end: int
    strike: float
    is_new: bool
    order: int
    is_wanted: bool


def levels_of(compiled: CompiledPolicy, present: Ints) -> list[list[int]]:
    """Per group and ladder position, the devices at that position or above; the first is all of them."""
    rows = present.tolist()
    out = []
    for row, ladder in zip(rows, compiled.ladders, strict=True):
        levels, above = [0] * len(ladder), 0
        for k in reversed(range(len(ladder))):
            above += row[ladder[k]]
            levels[k] = above
        out.append(levels)
    return out


def on_by_block(compiled: CompiledPolicy, counts: Ints) -> list[int]:
    """Devices on by block: a step's first ones are those of its first block."""
    levels, on = levels_of(compiled, counts), [0] * len(compiled.block_keys)
    for g, steps in enumerate(compiled.plain.blocks_of_step):
        for k, blocks in enumerate(steps):
            left = levels[g][k]
            for b in blocks:
                on[b] = min(left, compiled.plain.block_devices[b])
                left -= on[b]
    return on


def choose(compiled: CompiledPolicy, present: Ints, levels: Sequence[Sequence[int]], strikes: Strikes) -> Choice:
    """The best that is wanted and fits; where the floor asks for more, the best of the rest of the sheddable groups."""
    parts = sorted(_parts(compiled, levels, strikes))
    fill = _Fill(compiled, [row[0] for row in levels], parts)
    fill.reach_floor()
    fill.take_wanted()
    return Choice(fill.targets(present), fill.binding())


def _parts(compiled: CompiledPolicy, levels: Sequence[Sequence[int]], strikes: Strikes) -> Iterator[Part]:
    lists = (strikes.on.tolist(), strikes.off.tolist(), strikes.must.tolist(), strikes.may.tolist())
    for g, row in enumerate(levels):
        if row[0] == 0:
            continue
        scale = 1.0 if compiled.plain.has_work[g] else row[0] / max(compiled.plain.group_devices[g], 1)
        below = [_Run(row[0], math.inf, False, 0, True)]
        for k in range(1, len(row)):
            below = _upon(below, _own_runs(compiled, g, k, (row[k], row[0]), scale, lists))
            begin = 0
            for end, strike, is_new, order, is_wanted in below:
                yield Part(-strike, is_new, order, k, g, end - begin, is_wanted)
                begin = end


def _own_runs(
    compiled: CompiledPolicy,
    group: int,
    step: int,
    now_and_total: tuple[int, int],
    scale: float,
    lists: "tuple[list[float], list[float], list[bool], list[bool]]",
) -> list[_Run]:
    """A step's runs without regard to the step below; devices beyond its blocks are not wanted."""
    on, off, must, may = lists
    now, total = now_and_total
    blocks = compiled.plain.blocks_of_step[group][step]
    if not blocks:  # nothing is said of it: what is on stays on
        return [_Run(now, math.inf, False, 0, True), _Run(total, -math.inf, True, 0, False)]
    runs, devices = [], 0
    for b in blocks:
        devices += compiled.plain.block_devices[b]
        end = min(round(devices * scale), total)
        runs += [_Run(min(end, now), off[b], False, b, may[b]), _Run(end, on[b], True, b, must[b])]
    return [*runs, _Run(total, -math.inf, True, blocks[-1], False)]


def _upon(below: list[_Run], own: list[_Run]) -> list[_Run]:
    """Runs of a step, each no better than what it stands on and than those before it, which go on first."""
    out: list[_Run] = []
    lower = iter(below)
    base = next(lower)
    end, strike, is_new, order, is_wanted = 0, math.inf, False, 0, True
    for run in own:
        while end < run.end:
            while base.end <= end:
                base = next(lower)
            end = min(run.end, base.end)
            strike = min(strike, run.strike, base.strike)
            is_new = is_new or run.is_new or base.is_new
            order = max(order, run.order, base.order)
            is_wanted = is_wanted and run.is_wanted and base.is_wanted
            out.append(_Run(end, strike, is_new, order, is_wanted))
    return out


class _Fill:
    """Takes parts, which are in order, while there is room; counts devices per group and step."""

    def __init__(self, compiled: CompiledPolicy, totals: Sequence[int], parts: Sequence[Part]) -> None:
        self._compiled, self._plain, self._parts = compiled, compiled.plain, parts
        self._levels = [[n] + [0] * (len(ladder) - 1) for n, ladder in zip(totals, compiled.ladders, strict=True)]
        self._taken = [0] * len(parts)
        self._bound: set[str] = set()
        self._feeder_room = list(self._plain.feeder_caps_mw)
        self._room, self._sheddable = compiled.cap_mw, 0.0
        for g, devices in enumerate(totals):
            self._use(g, devices * self._plain.step_mw[g][0])

    def reach_floor(self) -> None:
        """Obligations first, whatever the price: the best sheddable parts up to the floor."""
        for n, part in enumerate(self._parts):
            short = self._compiled.floor_mw - self._sheddable
            if short <= _EPSILON_MW:
                return
            if not self._plain.is_sheddable[part.group]:
                continue
            each = self._plain.step_mw[part.group][part.step]
            self._take(n, part, min(part.devices, math.ceil(short / each - _FITS)) if each > 0 else part.devices)
            if self._taken[n] and not part.is_wanted:
                self._bound.add("floor")

    def take_wanted(self) -> None:
        """What the price wants, as far as it fits."""
        for n, part in enumerate(self._parts):
            if part.is_wanted:
                self._take(n, part, part.devices - self._taken[n])

    def targets(self, present: Ints) -> Ints:
        """[g, s] devices; states off a ladder as they are."""
        out = present.copy()
        for g, (ladder, levels) in enumerate(zip(self._compiled.ladders, self._levels, strict=True)):
            out[g, ladder] = [a - b for a, b in zip(levels, [*levels[1:], 0], strict=True)]
        return out

    def binding(self) -> tuple[str, ...]:
        """What bound, feeders first."""
        return tuple(sorted(self._bound, key=lambda name: (name in ("cap", "floor"), name)))

    def _take(self, n: int, part: Part, devices: int) -> None:
        levels, each = self._levels[part.group], self._plain.step_mw[part.group][part.step]
        devices = self._fitting(part.group, each, min(devices, levels[part.step - 1] - levels[part.step]))
        levels[part.step] += devices
        self._taken[n] += devices
        self._use(part.group, devices * each)

    def _fitting(self, group: int, each_mw: float, devices: int) -> int:
        feeder = self._plain.feeder_of_group[group]
        if devices * each_mw > self._feeder_room[feeder] + _EPSILON_MW:
            self._bound.add(f"feeder {self._compiled.feeder_ids[feeder]}")
            devices = max(math.floor(self._feeder_room[feeder] / each_mw + _FITS), 0)
        if devices * each_mw > self._room + _EPSILON_MW:
            self._bound.add("cap")
            devices = max(math.floor(self._room / each_mw + _FITS), 0)
        return devices

    def _use(self, group: int, mw: float) -> None:
        self._room -= mw
        self._feeder_room[self._plain.feeder_of_group[group]] -= mw
        if self._plain.is_sheddable[group]:
            self._sheddable += mw
