"""What each kind of write does to a node: whether it may begin, how long it takes, and what holds at its end.

A plan is made without changing anything where it is refused. What an operation's end does follows from the operation alone, so
that one can be ended by another process than the one that began it. Ids, repetition and waiting are in `node_agent`.
"""

from collections.abc import Collection
from typing import NamedTuple
from uuid import NAMESPACE_URL, uuid5

from simulators.gpus.hardware import Hardware
from simulators.gpus.nodes import Node
from simulators.gpus.problems import conflict
from simulators.gpus.requests import LARGE_GIB, Parking, Pause, PowerCap, Request, Reset, Start
from simulators.gpus.timings import TIMINGS
from simulators.gpus.workload_table import WorkloadTable
from simulators.gpus.workloads import CURTAILED, IDLE, LIVE, STATE_NAMES, Operation, Phase, Workload

TRAINING = "training"


class Plan(NamedTuple):
    """An operation that may begin: its row of `timings` (none: it is done at once) and its workloads."""

    row: str
    workloads: tuple[Workload, ...] = ()


class Planner:
    """The rules of one node."""

    def __init__(self, node: Node, hardware: Hardware, table: WorkloadTable, unreadable: Collection[str] = ()) -> None:
        self._node = node
        self._hardware = hardware
        self._table = table
        self._unreadable = unreadable
        self.is_drained = False

    def plan(self, kind: str, request: Request, gpus: tuple[int, ...], at_s: float) -> Plan:
        """What a write would do.

        Raises:
            ProblemError: the node is not in a state to do it.
        """
        if kind in ("drain", "undrain"):
            return Plan("")
        if kind == "reboot":
            return Plan("reboot")
        if isinstance(request, Reset):
            return self._reset(request, gpus)
        if isinstance(request, Parking) and kind == "stop":
            return Plan("stop", tuple(self._table.whole_on(gpus)))
        self._check_on_bus(gpus, at_s)
        return self._plan_work(kind, request, gpus, at_s)

    def go_down(self, gpus: tuple[int, ...], at_s: float) -> None:
        """The host stops: nothing runs any more."""
        self.lose_power(gpus, at_s, "the node was rebooted")
        self._hardware.set_state(CURTAILED, gpus, at_s)

    def lose_power(self, gpus: tuple[int, ...], at_s: float, reason: str) -> None:
        """What ran on the host is over."""
        for one in self._table.live_on(gpus):
            one.enter(Phase.FAILED, at_s, reason)

    def finish(self, operation: Operation, at_s: float) -> None:
        """Let hold what an operation was asked for.

        Raises:
            ProblemError: it has failed.
        """
        match operation.kind:
            case "start" | "resume":
                self._run(operation, at_s)
            case "pause" | "checkpoint":
                self._put_to_sleep(operation, at_s)
            case "stop":
                self._stop(operation, at_s)
            case "reset":
                self._finish_reset(operation, at_s)
            case "reboot":
                self._hardware.restart(at_s)
                self._rest(operation.gpus, at_s)
            case "drain" | "undrain":
                self.is_drained = operation.kind == "drain"
            case _:
                self._cap(operation, at_s)

    def _plan_work(self, kind: str, request: Request, gpus: tuple[int, ...], at_s: float) -> Plan:
        match request:
            case Start():
                return self._start(request, gpus, at_s)
            case Pause():
                return self._pause(request, gpus)
            case Parking() if kind == "checkpoint":
                return self._checkpoint(gpus)
            case PowerCap():
                return Plan("power-cap")
            case _:
                return self._resume(gpus)

    def _start(self, request: Start, gpus: tuple[int, ...], at_s: float) -> Plan:
        self._check_open()
        before = self._table.whole_on(gpus)
        if before and not request.replace:
            detail = f"GPUs have the workload {before[0].workload_id}; stop it, or send replace: true"
            raise conflict("in-use", detail, workload=before[0].workload_id)
        name = f"wl-{uuid5(NAMESPACE_URL, f'{self._node.hostname}/{request.request_id}').hex[:12]}"
        is_large = request.weights_gib > LARGE_GIB
        fresh = Workload(name, request.workload_class, request.model, gpus, is_large, Phase.LOADING, at_s)
        fresh.work, fresh.checkpoint = request.work, request.checkpoint
        fresh.weights_gib, fresh.load = request.weights_gib, request.load
        self._check_state(fresh.state)
        self._check_memory(request, gpus, at_s)
        for old in before:
            old.enter(Phase.STOPPED, at_s, f"replaced by {name}")
        self._table.add(fresh)
        self._rest(gpus, at_s)
        row = "start/training" if fresh.workload_class == TRAINING else f"start/{fresh.size}/{request.load}"
        return Plan(row, (fresh,))

    def _pause(self, request: Pause, gpus: tuple[int, ...]) -> Plan:
        found = self._table.in_phase(gpus, {Phase.RUNNING, Phase.PAUSED})
        if any(one.workload_class == TRAINING for one in found):
            raise conflict("not-pausable", "training has no sleep mode; checkpoint it")
        return Plan(f"pause/{request.level}", found)

    def _checkpoint(self, gpus: tuple[int, ...]) -> Plan:
        found = self._table.in_phase(gpus, {Phase.RUNNING, Phase.CHECKPOINTED})
        wide = next((one for one in found if one.workload_class != TRAINING and len(one.gpus) > 1), None)
        if wide is not None:
            detail = f"{wide.workload_id} runs on {len(wide.gpus)} GPUs: a CUDA checkpoint restores one GPU; pause it"
            raise conflict("checkpoint-multi-gpu", detail, workload=wide.workload_id)
        return Plan(_slowest([f"checkpoint/{_method(one)}" for one in found]), found)

    def _resume(self, gpus: tuple[int, ...]) -> Plan:
        self._check_open()
        found = self._table.in_phase(gpus, {Phase.PAUSED, Phase.CHECKPOINTED, Phase.RUNNING})
        rows = [
            f"resume/{one.method}" if one.phase is Phase.CHECKPOINTED else f"resume/{one.level or 1}/{one.size}"
            for one in found
        ]
        return Plan(_slowest(rows), found)

    def _reset(self, request: Reset, gpus: tuple[int, ...]) -> Plan:
        in_use = self._table.whole_on(gpus)
        if in_use and not request.force:
            detail = f"{in_use[0].workload_id} runs on it; stop it, or send force: true"
            raise conflict("in-use", detail, workload=in_use[0].workload_id)
        return Plan("reset", tuple(in_use))

    def _put_to_sleep(self, operation: Operation, at_s: float) -> None:
        request, alive = operation.request, [one for one in operation.workloads if one.phase in LIVE]
        for one in alive:
            if isinstance(request, Pause):
                one.enter(Phase.PAUSED, at_s)
                one.level = request.level
            else:
                one.enter(Phase.CHECKPOINTED, at_s)
                one.method = _method(one)
                one.save(at_s)
        self._rest(operation.gpus, at_s, is_parked=isinstance(request, Parking) and request.park)
        dead = next((one for one in operation.workloads if one not in alive), None)
        if dead is not None:
            raise conflict(
                "wrong-phase", f"{dead.workload_id} is {dead.phase}: {dead.reason}", workload=dead.workload_id
            )

    def _stop(self, operation: Operation, at_s: float) -> None:
        for one in operation.workloads:
            one.enter(Phase.STOPPED, at_s, "stopped")
        is_parked = isinstance(operation.request, Parking) and operation.request.park
        self._rest(operation.gpus, at_s, is_parked=is_parked)

    def _finish_reset(self, operation: Operation, at_s: float) -> None:
        for one in operation.workloads:
            one.enter(Phase.FAILED, at_s, "its GPU was reset")
        self._check_on_bus(operation.gpus, at_s)
        self._hardware.reset(operation.gpus, at_s)
        self._rest(operation.gpus, at_s)

    def _cap(self, operation: Operation, at_s: float) -> None:
        if isinstance(operation.request, PowerCap):
            self._hardware.set_power_cap(operation.gpus, operation.request.cap_w, at_s)

    def _run(self, operation: Operation, at_s: float) -> None:
        """Its workloads run from now on."""
        if any(not self._hardware.is_on_bus(index, at_s) for index in operation.gpus):
            for one in operation.workloads:
                one.enter(Phase.FAILED, at_s, "its GPU has fallen off the bus")
            self._check_on_bus(operation.gpus, at_s)
        for one in operation.workloads:
            self._check_readable(one, at_s)
            if one.phase in LIVE:
                self._hardware.set_state(one.state, one.gpus, at_s)
                one.enter(Phase.RUNNING, at_s)

    def _rest(self, gpus: tuple[int, ...], at_s: float, *, is_parked: bool = False) -> None:
        """GPUs do nothing from now on: idle, or in their lowest power state where asked for or where idle is none of theirs."""
        state = CURTAILED if is_parked or IDLE not in self._node.states else IDLE
        self._hardware.set_state(state, gpus, at_s)

    def _check_memory(self, request: Start, gpus: tuple[int, ...], at_s: float) -> None:
        """Weights are spread evenly over the GPUs; what an engine needs beside them is not looked at."""
        has_gib, needs_gib = self._hardware.memory_mib(at_s) / 1024, request.weights_gib / len(gpus)
        if needs_gib > has_gib:
            over = f"{request.weights_gib:g} GiB of weights over {len(gpus)} GPUs"
            raise conflict("does-not-fit", f"{over} need {needs_gib:.1f} GiB on each, which has {has_gib:.1f}")

    def _check_readable(self, one: Workload, at_s: float) -> None:
        if one.phase is not Phase.LOADING:
            return
        for kind, name in (("no-such-model", one.model), ("bad-checkpoint", one.checkpoint)):
            if name in self._unreadable:
                one.enter(Phase.FAILED, at_s, f"{name} can't be loaded")
                raise conflict(kind, f"{name} can't be loaded", workload=one.workload_id)

    def _check_open(self) -> None:
        if self.is_drained:
            raise conflict("drained", "the node is drained: it takes no new work until it is undrained")

    def _check_on_bus(self, gpus: tuple[int, ...], at_s: float) -> None:
        lost = [index for index in gpus if not self._hardware.is_on_bus(index, at_s)]
        if lost:
            detail = f"GPUs {', '.join(map(str, lost))} have fallen off the bus; reboot the node"
            raise conflict("gpu-lost", detail, gpus=lost)

    def _check_state(self, state: int) -> None:
        if state not in self._node.states:
            able = ", ".join(STATE_NAMES[one] for one in sorted(self._node.states | {CURTAILED}) if one in STATE_NAMES)
            raise conflict("state-not-supported", f"these GPUs can't be {STATE_NAMES[state]}; they can be: {able}")


def _method(workload: Workload) -> str:
    return "application" if workload.workload_class == TRAINING else "cuda"


def _slowest(rows: list[str]) -> str:
    return max(rows, key=lambda row: TIMINGS[row].most_s)
