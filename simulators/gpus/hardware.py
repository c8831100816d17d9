"""A node's GPUs as its driver sees them: readings, which boards are there, and what a reset or a restart mends.

The physics and the faults are the site's; this is where the agent and the exporter meet them.
"""

from collections.abc import Iterable
from uuid import NAMESPACE_URL, uuid5

from pyroaring import BitMap

from simulators import faults
from simulators.durability import TransitionLog
from simulators.gpus.nodes import Node
from simulators.readings import GpuReading

DIALECT = "gpu-agent"


class Hardware:
    """One node's boards. What changes them stands in the devices' own log."""

    def __init__(self, node: Node, transitions: TransitionLog) -> None:
        self._node = node
        self._transitions = transitions
        self._ref = uuid5(NAMESPACE_URL, f"protocol/{DIALECT}/{node.site.config.site}/{node.first_slot}").bytes
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
        self._transitions.limit(self._site, self._ref, cap_w, self.slots(numbers), at_s)

    def uncap(self, numbers: Iterable[int], at_s: float) -> None:
        """Limit boards' power no longer."""
        self._transitions.limit(self._site, self._ref, None, self.slots(numbers), at_s)

    def set_state(self, state: int, numbers: Iterable[int], at_s: float) -> None:
        """Put boards into a state."""
        self._transitions.set_state(self._site, self._ref, 0, state, self.slots(numbers), at_s)

    def end_work(self, numbers: Iterable[int], at_s: float) -> None:
        """Let what runs on boards die."""
        self._transitions.end_work(self._site, self._ref, self.slots(numbers), at_s)

    def has_no_work(self, number: int) -> bool:
        """Whether what ran on a board has died and nothing was begun since."""
        return self._site.has_no_work(self._node.gpus[number].slot)

    def reset(self, numbers: Iterable[int], at_s: float) -> None:
        """A reset of boards clears their XIDs, memory and link errors."""
        self._lift(faults.BY_RESET, numbers, at_s)

    def restart(self, at_s: float) -> None:
        """A restart of the host also brings back what fell off the bus, and forgets power caps."""
        everyone = [gpu.number for gpu in self._node.gpus]
        self._lift(faults.BY_RESTART, everyone, at_s)
        self.uncap(everyone, at_s)

    def slots(self, numbers: Iterable[int]) -> BitMap:
        """Their slots at the site."""
        return BitMap([self._node.gpus[number].slot for number in numbers])

    def commanded(self, number: int) -> int:
        """The state code a board was last commanded into, whoever did."""
        return int(self._site.commanded[self._node.gpus[number].slot])

    def _lift(self, kinds: Iterable[str], numbers: Iterable[int], at_s: float) -> None:
        self._transitions.lift(self._site, self._ref, kinds, self.slots(numbers), at_s)
        for number in numbers:
            self.resets[number] += 1
