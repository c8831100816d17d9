"""A scenario laid on the calendar: how strong each of its shifts is at an instant, and when its events come.

Pure functions of instants (Unix seconds). What a shift does to a price, a temperature or a fault rate is in their rooms.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TypeVar

import numpy as np

from simulators.grid_calls import GridCall
from simulators.scenarios import FrequencyDip, Scenario, ScriptedFault
from simulators.service_plan import Revision, ServiceName, Trouble
from simulators.spans import Span
from simulators.streams import FloatArray

GENERATED_START_S = 1_735_689_600  # 2025-01-01T00:00Z
HOUR_S = 3600.0

Shift = TypeVar("Shift", bound=Span)


class Script:
    """A scenario that began at an instant."""

    def __init__(self, scenario: Scenario, origin_s: float | None = None) -> None:
        self.scenario = scenario
        self.origin_s = float(begins_s(scenario) if origin_s is None else origin_s)
        self.most_fault_factor = lru_cache(maxsize=64)(self._most_fault_factor)

    def price(self, starts_s: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Factor and sum that power prices take at these instants."""
        factor, add = np.ones(len(starts_s)), np.zeros(len(starts_s))
        for shift, weight in self._active(self.scenario.prices, starts_s):
            factor *= 1.0 + (shift.factor - 1.0) * weight
            add += shift.add_usd_per_mwh * weight
        return factor, add

    def temperature_c(self, at_s: FloatArray) -> FloatArray:
        """What is added to the outdoor temperature at these instants, °C."""
        total = np.zeros(len(at_s))
        for shift, weight in self._active(self.scenario.weather, at_s):
            total += shift.shift_celsius * weight
        return total

    def gpu_market(self, at_s: float) -> tuple[float, float]:
        """Factor on rental rates, and the share of listings that are sold out."""
        factor, sold_out = 1.0, 0.0
        for shift, weight in self._active(self.scenario.gpus, np.array([at_s])):
            factor *= 1.0 + (shift.rate_factor - 1.0) * float(weight[0])
            sold_out = max(sold_out, shift.sold_out_fraction * float(weight[0]))
        return factor, sold_out

    def bitcoin_factor(self, at_s: FloatArray) -> FloatArray:
        """Factor on bitcoin's price at these instants."""
        factor = np.ones(len(at_s))
        for shift, weight in self._active(self.scenario.bitcoin, at_s):
            factor *= 1.0 + (shift.factor - 1.0) * weight
        return factor

    def troubles(self, service: ServiceName, at_s: float) -> list[tuple[Trouble, float, float]]:
        """What is wrong with a service at an instant: the trouble, how far it has risen (0–1), and since when."""
        if not self.scenario.services.troubles:
            return []
        instant = np.array([at_s])
        hour = float(self.hours(instant)[0])
        return [
            (trouble, float(weight[0]), round(at_s - (hour - trouble.from_h) * HOUR_S, 3))
            for trouble, weight in self._active(self.scenario.services.troubles, instant)
            if service in (trouble.services or [service]) and trouble.from_h <= hour < trouble.until_h
        ]

    def revisions(self, starts_s: FloatArray) -> Iterator[tuple[int, Revision, FloatArray]]:
        """Corrections of prices: their number in the scenario, and how much of each holds for intervals that begin then."""
        for number, (revision, weight) in enumerate(self._active(self.scenario.services.revisions, starts_s)):
            yield number, revision, weight

    def fault_factor(self, kind: str, at_s: FloatArray) -> FloatArray:
        """Factor on the rate of one kind of fault at these instants."""
        factor = np.ones(len(at_s))
        for shift, weight in self._active(self.scenario.fault_shifts, at_s):
            if not shift.kinds or kind in shift.kinds:
                factor *= 1.0 + (shift.factor - 1.0) * weight
        return factor

    def _most_fault_factor(self, kind: str) -> float:
        """The highest value `fault_factor` can take: at the beginning of one of the shifts that make faults more frequent."""
        shifts = [s for s in self.scenario.fault_shifts if s.factor > 1.0 and (not s.kinds or kind in s.kinds)]
        at_once = ([s.factor for s in shifts if s.from_h <= one.from_h < s.until_h] for one in shifts)
        return max((float(np.prod(factors)) for factors in at_once), default=1.0)

    def events_between(self, first_s: float, last_s: float) -> Iterator[tuple[int, ScriptedFault, float]]:
        """Events due in [first, last): number in the scenario, the event, and when."""
        for number, event in enumerate(self.scenario.events):
            for due_s in self._instants(event.at_h, first_s, last_s):
                yield number, event, due_s

    def dips_between(self, first_s: float, last_s: float) -> Iterator[tuple[FrequencyDip, float]]:
        """Falls of the grid's frequency that begin in [first, last): the dip, and when."""
        for dip in self.scenario.frequency:
            for due_s in self._instants(dip.at_h, first_s, last_s):
                yield dip, due_s

    def calls_between(self, first_s: float, last_s: float) -> Iterator[tuple[int, GridCall, float]]:
        """Calls of the grid that begin in [first, last): number in the scenario, the call, and when."""
        for number, call in enumerate(self.scenario.grid):
            for due_s in self._instants(call.at_h, first_s, last_s):
                yield number, call, due_s

    def pumps_between(self, site: int, first_s: float, last_s: float) -> list[tuple[int, float, float]]:
        """(pump, from, until) of the failures of a site's pumps that overlap [first, last]."""
        found = []
        for failure in self.scenario.pumps:
            if failure.site in (None, site):
                length_s = failure.minutes * 60.0
                begins = self._instants(failure.at_h, first_s - length_s, last_s + 1e-6)
                found += [(failure.pump, at_s, at_s + length_s) for at_s in begins]
        return found

    def is_cut(self, site: int, at_s: float) -> bool:
        """Whether no message passes between a site, by number, and its gateway."""
        hour = float(self.hours(np.array([at_s]))[0])
        return any(cut.site == site and cut.from_h <= hour < cut.until_h for cut in self.scenario.network.cuts)

    def hours(self, at_s: FloatArray) -> FloatArray:
        """Hours into the script; below 0 before it has begun."""
        since_h = (at_s - self.origin_s) / HOUR_S
        return np.where(since_h >= 0, since_h % self.scenario.repeat_h, -1.0)

    def _instants(self, at_h: float, first_s: float, last_s: float) -> Iterator[float]:
        """When an hour of the script comes in [first, last)."""
        period_s = self.scenario.repeat_h * HOUR_S
        base_s = self.origin_s + at_h * HOUR_S
        cycle = max(0, int(-(-(first_s - base_s) // period_s)))
        while (due_s := base_s + cycle * period_s) < last_s:
            yield due_s
            cycle += 1

    def _active(self, shifts: Iterable[Shift], at_s: FloatArray) -> Iterator[tuple[Shift, FloatArray]]:
        listed = list(shifts)
        hours = self.hours(at_s) if listed else None
        for shift in listed:
            if hours is not None:
                yield shift, _weight(shift, hours)


def begins_s(scenario: Scenario) -> int:
    """Where a generated world with this scenario begins, Unix seconds."""
    return int(scenario.begins.timestamp()) if scenario.begins else GENERATED_START_S


def _weight(span: Span, hours: FloatArray) -> FloatArray:
    """0 outside, 1 in the middle, straight lines between.

    >>> _weight(Span(from_h=2, until_h=6, rise_h=1), np.array([1.0, 2.5, 4.0, 5.75, 6.0])).tolist()
    [0.0, 0.5, 1.0, 0.25, 0.0]
    """
    inside = (hours >= span.from_h) & (hours < span.until_h)
    if span.rise_h <= 0:
        return inside.astype(np.float64)
    edge_h = np.minimum(hours - span.from_h, span.until_h - hours)
    return np.where(inside, np.clip(edge_h / span.rise_h, 0.0, 1.0), 0.0)
