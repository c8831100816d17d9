"""The workloads of one node: which are live, which cover some GPUs whole, and what others or an XID did to them.

Looking changes nothing at the site. A workload that an XID has ended on one of its GPUs is over on all of them: it is shown as
failed and they draw like idle ones, but they stay in their state until it is stopped or started again.
"""

from collections.abc import Collection, Iterable
from uuid import NAMESPACE_URL, uuid5

from simulators.gpus.hardware import Hardware
from simulators.gpus.nodes import Node
from simulators.gpus.problems import conflict
from simulators.gpus.workloads import CLASS_OF_STATE, LIVE, Phase, Workload

MAX_ENDED = 64


class WorkloadTable:
    """What runs, has run, or failed on one node."""

    def __init__(self, node: Node, hardware: Hardware) -> None:
        self._node = node
        self._hardware = hardware
        self._all: list[Workload] = []

    def add(self, workload: Workload) -> None:
        """Remember one more; of those that ended the oldest are forgotten."""
        self._all.append(workload)
        ended = [one for one in self._all if one.phase not in LIVE]
        for one in ended[: max(0, len(ended) - MAX_ENDED)]:
            self._all.remove(one)

    def restore(self, workloads: Iterable[Workload]) -> None:
        """Remember what was remembered before."""
        self._all = list(workloads)

    def struck(self, gpus: Collection[int], xid: int, at_s: float) -> None:
        """An XID has ended what runs on some GPUs: the whole of each workload is over."""
        for one in self._all:
            hit = sorted(set(gpus) & set(one.gpus))
            if one.phase is Phase.RUNNING and hit:
                one.enter(Phase.FAILED, at_s, f"XID {xid} on GPU {hit[0]}")
                self._hardware.end_work(one.gpus, at_s)

    def everything(self) -> list[Workload]:
        """All that are remembered, oldest first."""
        return list(self._all)

    def live_on(self, gpus: Iterable[int]) -> list[Workload]:
        """The live workloads that have one of these GPUs."""
        wanted = set(gpus)
        return [one for one in self._all if one.phase in LIVE and wanted & set(one.gpus)]

    def whole_on(self, gpus: tuple[int, ...]) -> list[Workload]:
        """The live workloads on these GPUs.

        Raises:
            ProblemError: one of them has other GPUs, too.
        """
        found = self.live_on(gpus)
        partial = next((one for one in found if not set(one.gpus) <= set(gpus)), None)
        if partial is not None:
            detail = f"{partial.workload_id} runs on GPUs {', '.join(map(str, partial.gpus))}: name all of them"
            raise conflict("partial-workload", detail, workload=partial.workload_id)
        return found

    def in_phase(self, gpus: tuple[int, ...], phases: Collection[Phase]) -> tuple[Workload, ...]:
        """The workloads on these GPUs; at least one.

        Raises:
            ProblemError: there is none, one is in another phase, or one has other GPUs, too.
        """
        found = self.whole_on(gpus)
        if not found:
            raise conflict("nothing-runs", f"no workload on GPUs {', '.join(map(str, gpus))}")
        wrong = next((one for one in found if one.phase not in phases), None)
        if wrong is not None:
            raise conflict("wrong-phase", f"{wrong.workload_id} is {wrong.phase}", workload=wrong.workload_id)
        return tuple(found)

    def look_after(self, busy: Collection[int], at_s: float) -> None:
        """Notice what others did to GPUs that no operation is at work on."""
        for one in self._all:
            if one.phase is Phase.RUNNING and not set(busy) & set(one.gpus):
                self._look_after(one, at_s)
        for gpu in self._node.gpus:
            state = self._hardware.commanded(gpu.number)
            if state in CLASS_OF_STATE and gpu.number not in busy and not self._is_accounted_for(gpu.number, state):
                self._adopt(gpu.number, state, at_s)

    def _look_after(self, workload: Workload, at_s: float) -> None:
        if any(self._hardware.commanded(index) != workload.state for index in workload.gpus):
            workload.enter(Phase.STOPPED, at_s, "the site switched its GPUs")
        elif dead := [index for index in workload.gpus if self._hardware.has_no_work(index)]:
            workload.enter(Phase.FAILED, at_s, f"what ran on GPU {dead[0]} has died")

    def _is_accounted_for(self, index: int, state: int) -> bool:
        last = next((one for one in reversed(self._all) if index in one.gpus), None)
        is_dead = self._hardware.has_no_work(index)
        return last is not None and (
            last.phase in LIVE or (last.phase is Phase.FAILED and last.state == state and is_dead)
        )

    def _adopt(self, index: int, state: int, at_s: float) -> None:
        """Work that was not begun here: the site commanded its GPU past the agent."""
        name = f"wl-{uuid5(NAMESPACE_URL, f'{self._node.hostname}/{index}/{at_s}').hex[:12]}"
        found = Workload(name, CLASS_OF_STATE[state], "unknown", (index,), False, Phase.RUNNING, at_s)
        if self._hardware.has_no_work(index):
            found.enter(Phase.FAILED, at_s, f"XID {self._hardware.reading(index, at_s).last_xid} on GPU {index}")
        self.add(found)
