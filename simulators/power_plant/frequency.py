"""The grid's frequency, one for all sites, and the under-frequency relay's view of it. Pure functions of the instant.

Quietly it wanders some hundredths of a hertz around 60 Hz (a setting). Excursions fall to a nadir, stay, and recover; a
scenario's script brings them, or a test adds them.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import sin, tau

from simulators.power_plant.config import RelayConfig
from simulators.scenarios import FrequencyDip
from simulators.script import Script
from simulators.streams import stream

NOMINAL_HZ = 60.0
_WANDER_HZ = 0.008
_LONGEST_S = 7800.0  # no excursion of a script lasts longer
_LATEST_RECALL_S = 86_400.0
_PERIODS_S = (41.0, 173.0, 611.0)


@dataclass(frozen=True, slots=True)
class Excursion:
    """A fall to `nadir_hz` within `fall_s`, `hold_s` there, back to nominal within `recover_s`; simulated seconds.

    `recall_after_s`: so long after its end everybody is told to come back.
    """

    start_s: float
    nadir_hz: float
    fall_s: float = 2.0
    hold_s: float = 20.0
    recover_s: float = 300.0
    recall_after_s: float | None = None

    @property
    def end_s(self) -> float:
        """When the frequency is nominal again."""
        return self.start_s + self.fall_s + self.hold_s + self.recover_s

    def hz(self, at_s: float) -> float:
        """Frequency at an instant within it."""
        depth = NOMINAL_HZ - self.nadir_hz
        since_s = at_s - self.start_s
        if since_s < self.fall_s:
            return NOMINAL_HZ - depth * since_s / self.fall_s
        left_s = self.end_s - at_s
        return NOMINAL_HZ - depth * min(1.0, left_s / self.recover_s) if self.recover_s else self.nadir_hz

    def pick_up_s(self, relay: RelayConfig) -> float | None:
        """When a relay in service all along would open; None if the frequency is not below its set-point long enough."""
        depth, wanted = NOMINAL_HZ - self.nadir_hz, NOMINAL_HZ - relay.trip_hz
        if depth <= wanted:
            return None
        share = wanted / depth
        below_s = self.start_s + self.fall_s * share
        above_s = self.end_s - self.recover_s * share
        return below_s + relay.delay_s if above_s - below_s >= relay.delay_s else None


class GridFrequency:
    """Frequency at any instant; `excursions` come on top of those of the scenario's script."""

    def __init__(self, seed: int, script: Script | None = None) -> None:
        self.script = script
        self._phases = tuple(
            float(phase) for phase in stream(seed, "grid.frequency").uniform(0.0, tau, len(_PERIODS_S))
        )
        self.excursions: tuple[Excursion, ...] = ()

    def add(self, excursion: Excursion) -> None:
        """Script an excursion; the list stays in order of time.

        Raises:
            ValueError: it overlaps another one.
        """
        ordered = sorted((*self.excursions, excursion), key=lambda one: one.start_s)
        for before, after in pairwise(ordered):
            if after.start_s < before.end_s:
                message = f"frequency excursions at {before.start_s} and {after.start_s} overlap; move one of them"
                raise ValueError(message)
        self.excursions = tuple(ordered)

    def hz(self, at_s: float) -> float:
        """Frequency at an instant, hertz."""
        for excursion in self._between(at_s - _LONGEST_S, at_s + 1e-6):
            if excursion.start_s <= at_s < excursion.end_s:
                return excursion.hz(at_s)
        waves = zip(_PERIODS_S, self._phases, strict=True)
        return NOMINAL_HZ + _WANDER_HZ * sum(sin(tau * at_s / period_s + phase) for period_s, phase in waves)

    def pick_ups_s(self, relay: RelayConfig, first_s: float, last_s: float) -> list[float]:
        """Instants in (first, last] at which the relay opens."""
        near = self._between(first_s - _LONGEST_S, last_s)
        instants = (excursion.pick_up_s(relay) for excursion in near)
        return [at_s for at_s in instants if at_s is not None and first_s < at_s <= last_s]

    def recalls_s(self, first_s: float, last_s: float) -> list[float]:
        """Instants in (first, last] at which everybody is told to come back."""
        near = self._between(first_s - _LONGEST_S - _LATEST_RECALL_S, last_s)
        instants = [one.end_s + one.recall_after_s for one in near if one.recall_after_s is not None]
        return [at_s for at_s in instants if first_s < at_s <= last_s]

    def _between(self, first_s: float, last_s: float) -> list[Excursion]:
        """Those that begin in [first, last)."""
        dips = self.script.dips_between(first_s, last_s) if self.script else ()
        own = (one for one in self.excursions if first_s <= one.start_s < last_s)
        return [*own, *(_excursion(dip, at_s) for dip, at_s in dips)]


def _excursion(dip: FrequencyDip, at_s: float) -> Excursion:
    recall_s = None if dip.recall_minutes is None else dip.recall_minutes * 60.0
    return Excursion(at_s, dip.nadir_hz, dip.fall_s, dip.hold_s, dip.recover_s, recall_s)
