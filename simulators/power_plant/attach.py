"""Gives each site of a fleet its plant: one grid frequency for all, an earlier process's states, and the log to write to."""

from functools import partial
from pathlib import Path

from simulators.fleet import Fleet
from simulators.power_plant.frequency import GridFrequency
from simulators.power_plant.memory import PlantLog, restore
from simulators.power_plant.plant import Plant


class Plants:
    """The plants of a fleet; `frequency` takes scripted excursions.

    To be made once the fleet's own state is restored and its `on_restart` set: after its `TransitionLog`.
    """

    def __init__(self, fleet: Fleet, log: Path, frequency: GridFrequency) -> None:
        self.frequency = frequency
        self._log = PlantLog(log)
        for name, site in fleet.sites.items():
            site.plant = Plant(site, frequency, site.outdoor_c)
            site.plant.on_restart = site.on_restart
            restore(site.plant, name, self._log.entries)
            site.plant.record = partial(self._log.append, name)

    def close(self) -> None:
        """Close the log."""
        self._log.close()
