"""A node's GPUs as its driver sees them: readings, which boards are there, and what a reset or a restart mends.

The physics and the faults are the site's; this is where the agent and the exporter meet them.
"""

from collections.abc import Iterable

from pyroaring import BitMap

from simulators import faults
from simulators.gpus.nodes import Node
from simulators.readings import GpuReading

_BY_RESET = (faults.ECC, faults.NVLINK, faults.XID)  # heat is not mended so
_BY_RESTART = (*_BY_RESET, faults.FALLEN_OFF_BUS)


class Hardware:
    """One node's boards."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._site = node.site
        self.resets = [0] * len(node.gpus)

    def is_there(self, at_s: float) -> bool:
        """Whether the host has power and has booted."""
        self._site.advance(at_s)
        found = self._site.faults.at(self._node.first_slot, at_s)
        if found & {faults.NODE_LOST, faults.POWER_LOST}:
            return False
        reachable = self._site.reachable
        on_bus = [reachable[gpu.slot] for gpu in self._node.gpus if self.is_on_bus(gpu.number, at_s)]
        return any(on_bus) or not on_bus

    def reading(self, number: int, at_s: float) -> GpuReading:
        """The truth about one board."""
        return self._site.gpu(self._node.gpus[number].slot, at_s)

    def is_on_bus(self, number: int, at_s: float) -> bool:
        """Whether the driver sees the board."""
        return faults.FALLEN_OFF_BUS not in self._site.faults.at(self._node.gpus[number].slot, at_s)

    def memory_mib(self, at_s: float) -> float:
        """Memory of each board."""
        return self.reading(0, at_s).memory_total_mib

    def set_power_cap(self, numbers: Iterable[int], cap_w: float, at_s: float) -> None:
        """Limit boards' power."""
        for number in numbers:
            self._site.cap_power(self._node.gpus[number].slot, cap_w, at_s)

    def reset(self, numbers: Iterable[int], at_s: float) -> None:
        """A reset of boards clears their XIDs, memory and link errors."""
        self._lift(_BY_RESET, numbers, at_s)

    def restart(self, uncapped_w: float, at_s: float) -> None:
        """A restart of the host also brings back what fell off the bus, and forgets power caps."""
        everyone = [gpu.number for gpu in self._node.gpus]
        self._lift(_BY_RESTART, everyone, at_s)
        self.set_power_cap(everyone, uncapped_w, at_s)

    def slots(self, numbers: Iterable[int]) -> BitMap:
        """Their slots at the site."""
        return BitMap([self._node.gpus[number].slot for number in numbers])

    def commanded(self, number: int) -> int:
        """The state code a board was last commanded into, whoever did."""
        return int(self._site.commanded[self._node.gpus[number].slot])

    def _lift(self, kinds: Iterable[str], numbers: Iterable[int], at_s: float) -> None:
        self._site.lift(kinds, self.slots(numbers), at_s)
        for number in numbers:
            self.resets[number] += 1
