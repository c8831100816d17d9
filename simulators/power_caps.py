"""Power caps of GPU boards: what a capped slot may draw, and what a cap does to a board's clock. They don't outlive the world.

A slot's power is the board's and its share of the host; both shrink alike, as `physics` takes them apart. The clock falls with
the cube root of the power, since power goes with frequency and the square of a voltage that goes with it.
"""

import dataclasses

import numpy as np

from simulators.models import GpuModel
from simulators.ramps import PowerArray
from simulators.readings import GpuReading
from simulators.streams import IntArray
from simulators.tables import Tables


class PowerCaps:
    """The caps of one site's boards; none at first."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._share = np.ones(len(tables.first_state), dtype=np.float32)  # of the board's limit
        self._is_used = False

    def put(self, slot: int, cap_w: float) -> None:
        """Cap one board; a cap of its limit or more is none.

        Raises:
            KeyError: the slot holds no GPU.
        """
        group = int(self._tables.group_of[slot])
        model = self._tables.models[group] if group >= 0 else None
        if not isinstance(model, GpuModel):
            message = f"slot {slot} holds no GPU"
            raise KeyError(message)
        self._is_used = True
        self._share[slot] = min(1.0, cap_w / model.power_w)

    def target_w(self, state: int, index: IntArray) -> PowerArray:
        """What slots draw in a state, caps applied."""
        uncapped = self._tables.power_w[state, index]
        if not self._is_used:
            return uncapped
        most = self._tables.power_w[:, index].max(axis=0) * self._share[index]
        return np.minimum(uncapped, most)

    def applied(self, reading: GpuReading) -> GpuReading:
        """The reading with its cap and the clock that the cap leaves it."""
        share = float(self._share[reading.slot])
        if share >= 1.0:
            return reading
        power_w = self._tables.power_w[:, reading.slot]
        wanted = float(power_w[reading.state] / power_w.max())
        slowed = min(1.0, share / wanted) ** (1 / 3) if wanted else 1.0
        return dataclasses.replace(
            reading, power_cap_w=reading.power_cap_w * share, sm_clock_mhz=reading.sm_clock_mhz * slowed
        )
