"""Which steps bring GPUs into a state, by what they do now: pure. Asking for them is in `device`.

What is lost least is chosen: inference sleeps, training is checkpointed, what sleeps is woken rather than loaded.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from hcp_pipelines.devices.gpu_node.agent_codec import CLASS_OF_STATE
from hcp_pipelines.devices.gpu_node.values import GpuStatus
from hcp_pipelines.domain.modes import DeviceState

NOTHING, START = "nothing", "start"
RESTING = (DeviceState.IDLE, DeviceState.CURTAILED)
_TRAINING = CLASS_OF_STATE[DeviceState.TRAINING]
_SLEEPING = frozenset({"paused", "checkpointed"})

Gpus = tuple[int, ...]


class Step(NamedTuple):
    """What to ask for; `parts` are the GPUs of each workload (of each to be loaded), which stand or fall together."""

    name: str
    parts: tuple[Gpus, ...]

    @property
    def gpus(self) -> Gpus:
        """All of them, rising."""
        return tuple(sorted(index for part in self.parts for index in part))


def steps_to(state: DeviceState, gpus: Sequence[GpuStatus], gpus_each: int) -> list[Step]:
    """One step a kind; what is to be loaded in parts of so many GPUs."""
    found: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for gpu in sorted(gpus, key=lambda gpu: gpu.index):
        step = _step(state, gpu)
        found[step]["" if step in (NOTHING, START) else gpu.workload_id or ""].append(gpu.index)
    return [
        Step(name, _in_parts(parts[""], gpus_each) if name == START else tuple(map(tuple, parts.values())))
        for name, parts in found.items()
    ]


def _in_parts(gpus: Sequence[int], gpus_each: int) -> tuple[Gpus, ...]:
    """GPUs in parts of so many, the last one smaller.

    >>> _in_parts([0, 1, 2], 2)
    ((0, 1), (2,))
    """
    return tuple(tuple(gpus[first : first + gpus_each]) for first in range(0, len(gpus), gpus_each))


def _step(state: DeviceState, gpu: GpuStatus) -> str:
    if state in RESTING:
        return _step_to_rest(state, gpu)
    is_wanted = gpu.workload_class == CLASS_OF_STATE[state]
    if is_wanted and gpu.workload_phase in _SLEEPING:
        return "resume"
    return NOTHING if is_wanted and gpu.workload_phase in ("running", "loading") else START


def _step_to_rest(state: DeviceState, gpu: GpuStatus) -> str:
    if gpu.workload_phase == "running":
        return "checkpoint" if gpu.workload_class == _TRAINING else "pause"
    is_there = gpu.state is state and gpu.operation_id is None
    if gpu.workload_phase in _SLEEPING and not is_there:
        return "checkpoint" if gpu.workload_phase == "checkpointed" else "pause"
    return NOTHING if is_there else "stop"
