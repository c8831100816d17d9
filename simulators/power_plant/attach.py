"""Gives each site of a fleet its plant: one grid frequency for all, an earlier process's states, and the log to write to."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from simulators.fleet import Fleet
from simulators.power_plant.frequency import GridFrequency
from simulators.power_plant.memory import Entry, PlantLog, restore
from simulators.power_plant.plant import Plant
from simulators.power_plant.pumps import PumpScript


class Plants:
    """The plants of a fleet; `frequency` takes scripted excursions.

    To be made once the fleet's own state is restored and its `on_restart` set: after its `TransitionLog`.
    """

    def __init__(
        self, fleet: Fleet, log: Path, frequency: GridFrequency, on_change: Callable[[], None] | None = None
    ) -> None:
        """`on_change`: told of each change, so that the fleet's own state is saved soon after."""
        self.frequency = frequency
        self._log = PlantLog(log)
        self._on_change = on_change
        for number, site in enumerate(fleet.sites.values()):
            site.plant = Plant(site, frequency, site.outdoor_c, pumps=PumpScript(frequency.script, number))
            restore(site.plant, site, self._log.entries)
            site.plant.on_restart = site.on_restart
            site.plant.record = partial(self._record, site.config.site)

    def close(self) -> None:
        """Close the log."""
        self._log.close()

    def _record(self, site: str, what: str, name: str, state: str, at_s: float) -> None:
        self._log.append(Entry(at_s, site, what, name, state))
        if self._on_change is not None:
            self._on_change()
