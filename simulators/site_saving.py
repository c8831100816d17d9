"""Which arrays of a site outlive the process, and how saved ones are taken over, by the devices that are still the same."""

from typing import Any, Final

import numpy as np

from simulators.devices import Devices
from simulators.physics import Physics
from simulators.ramps import Ramps
from simulators.site_records import merged
from simulators.streams import BoolArray

_RAMPS: Final = ("from_w", "to_w", "start_s", "ramp_s", "energy_j")
_DEVICES: Final = ("commanded", "acting", "limit_w", "has_no_pool", "has_no_work", "is_dark", "boots_until_s")
_PHYSICS: Final = ("work_done", "full_th_per_s", "awake_since_s", "rise_c")
_INSTANTS: Final = ("start_s", "boots_until_s", "awake_since_s")  # of new devices: that of the saved state

Arrays = dict[str, "np.ndarray[Any, Any]"]


class Rooms:
    """The parts of one site that hold arrays by slot."""

    def __init__(self, ramps: Ramps, devices: Devices, physics: Physics) -> None:
        self._rooms: tuple[tuple[object, tuple[str, ...]], ...] = (
            (ramps, _RAMPS),
            (devices, _DEVICES),
            (physics, _PHYSICS),
        )

    def save(self) -> Arrays:
        """A copy of every array."""
        return {name: getattr(room, name).copy() for room, names in self._rooms for name in names}

    def restore(self, arrays: Arrays, kept: BoolArray, at_s: float) -> None:
        """Take over the values of the slots that are kept; the others stay as they are, from an instant on."""
        index = np.flatnonzero(kept)
        for room, names in self._rooms:
            for name in names:
                others = at_s if name in _INSTANTS else None
                setattr(room, name, merged(getattr(room, name), arrays[name], index, others))
