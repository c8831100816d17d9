"""Which steps bring GPUs into a state, by what they do now: pure. Asking for them is in `device`.

What is lost least is chosen: inference sleeps, training is checkpointed, what sleeps is woken rather than loaded, and before
anything is loaded. What runs something else is switched in phases, by `switching`.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hcp_pipelines.devices.gpu_node.agent_codec import CLASS_OF_STATE
from hcp_pipelines.devices.gpu_node.values import GpuStatus
from hcp_pipelines.domain.modes import RESTING, DeviceState

NOTHING, START, RESUME, AT_WORK = "nothing", "start", "resume", "at_work"
SLEEPS = ("pause", "checkpoint")
_ORDER = (NOTHING, RESUME, *SLEEPS, "stop", AT_WORK, START)  # what takes least goes first
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


def steps_to(
    state: DeviceState, gpus: Sequence[GpuStatus], gpus_each: int, work: str = "", checkpoint: str = ""
) -> list[Step]:
    """One step a kind; what is to be loaded in parts of so many GPUs. `work`: whose; what another one's does is other work.

    What sleeps there of the same work is woken where it went on from that `checkpoint`, or has written it; else it has been at
    work elsewhere since, and is loaded anew.
    """
    found: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for gpu in sorted(gpus, key=lambda gpu: gpu.index):
        step = _step(state, gpu, work, checkpoint)
        found[step]["" if step in (NOTHING, START) else gpu.workload_id or ""].append(gpu.index)
    if gpus_each > 1 and AT_WORK in found:  # a copy may take what is free beside what works
        found[AT_WORK][""] += found.pop(START, {}).get("", [])
    return [
        Step(name, in_parts(parts[""], gpus_each) if name == START else tuple(map(tuple, parts.values())))
        for name, parts in sorted(found.items(), key=lambda item: _ORDER.index(item[0]))
    ]


def switched_together(at_work: Mapping[int, GpuStatus], gpus_each: int) -> list[Gpus]:
    """GPUs switched together: of one workload, or of a class where a new copy goes over several; free ones with the first."""
    found: dict[str, list[int]] = defaultdict(list)
    for gpu, status in sorted(at_work.items(), key=lambda item: (item[1].workload_phase != "running", item[0])):
        is_free = status.workload_phase != "running"
        name = str(status.workload_class if gpus_each > 1 else status.workload_id)
        found[next(iter(found)) if is_free else name].append(gpu)
    return [tuple(sorted(gpus)) for gpus in found.values()]


def in_parts(gpus: Sequence[int], gpus_each: int) -> tuple[Gpus, ...]:
    """GPUs in parts of so many, the last one smaller.

    >>> in_parts([0, 1, 2], 2)
    ((0, 1), (2,))
    """
    return tuple(tuple(gpus[first : first + gpus_each]) for first in range(0, len(gpus), gpus_each))


def warm_state(gpu: GpuStatus) -> DeviceState | None:
    """The state for which something sleeps on a GPU; None where nothing does."""
    if gpu.workload_phase not in _SLEEPING:
        return None
    return next((state for state, name in CLASS_OF_STATE.items() if name == gpu.workload_class), None)


def _step(state: DeviceState, gpu: GpuStatus, work: str, checkpoint: str) -> str:
    if state in RESTING:
        return _step_to_rest(state, gpu)
    is_wanted = gpu.workload_class == CLASS_OF_STATE[state] and work in ("", gpu.work)
    if is_wanted and gpu.workload_phase in _SLEEPING:
        return RESUME if not work or checkpoint in (gpu.checkpoint, gpu.saved) else START
    if is_wanted and gpu.workload_phase in ("running", "loading"):
        return NOTHING
    return AT_WORK if gpu.workload_phase == "running" else START


def _step_to_rest(state: DeviceState, gpu: GpuStatus) -> str:
    if gpu.workload_phase == "running":
        return "checkpoint" if gpu.workload_class == _TRAINING else "pause"
    is_there = gpu.state is state and gpu.operation_id is None
    if gpu.workload_phase in _SLEEPING and not is_there:
        return "checkpoint" if gpu.workload_phase == "checkpointed" else "pause"
    return NOTHING if is_there else "stop"
