"""Gives each site of a fleet its plant: one grid frequency for all, the states of an earlier process, and the logs to write to."""

from functools import partial
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from pyroaring import BitMap

from simulators.durability import TransitionLog
from simulators.fleet import Fleet, Site
from simulators.power_plant.frequency import GridFrequency
from simulators.power_plant.memory import PlantLog, restore
from simulators.power_plant.plant import Plant


class Plants:
    """The plants of a fleet; `frequency` takes scripted excursions. To be made after the fleet's own state is restored."""

    def __init__(self, fleet: Fleet, transitions: TransitionLog, log: Path, seed: int) -> None:
        self.frequency = GridFrequency(seed)
        self._log = PlantLog(log)
        for name, site in fleet.sites.items():
            plant = Plant(site, self.frequency, site.outdoor_c)
            plant.on_restart = partial(_note_restart, transitions, site)
            site.plant = plant
            restore(plant, name, self._log.entries)
            plant.record = partial(self._log.append, name)

    def close(self) -> None:
        """Close the log."""
        self._log.close()


def _note_restart(transitions: TransitionLog, site: Site, state: int, changed: BitMap) -> None:
    """In the devices' own log a restart after a power cut is told from commands by its ref."""
    ref = uuid5(NAMESPACE_URL, f"protocol/power/{site.config.site}").bytes
    transitions.note(site, ref, 0, state, changed, site.at_s)
