"""What each kind of write does to a node: whether it may begin, how long it takes, and what holds at its end.

A plan is made without changing anything where it is refused. Ids, repetition and waiting are in `node_agent`.
"""

from collections.abc import Callable
from typing import NamedTuple
from uuid import NAMESPACE_URL, uuid5

from simulators.durability import TransitionLog
from simulators.gpus.hardware import Hardware
from simulators.gpus.nodes import Node
from simulators.gpus.problems import conflict
from simulators.gpus.requests import LARGE_GIB, MOST_CAP_W, Parking, Pause, PowerCap, Request, Reset, Start
from simulators.gpus.timings import TIMINGS
from simulators.gpus.workload_table import WorkloadTable, running_xids
from simulators.gpus.workloads import CURTAILED, IDLE, LIVE, STATE_NAMES, Operation, Phase, Workload

DIALECT = "gpu-agent"
TRAINING = "training"

Finish = Callable[[Operation, float], None]


class Plan(NamedTuple):
    """An operation that may begin: its row of `timings` (none: it is done at once), its workloads, what holds at its end."""

    row: str
    finish: Finish
    workloads: tuple[Workload, ...] = ()


class Planner:
    """The rules of one node."""

    def __init__(self, node: Node, hardware: Hardware, table: WorkloadTable, transitions: TransitionLog) -> None:
        self._node = node
        self._hardware = hardware
        self._table = table
        self._transitions = transitions
        self._ref = uuid5(NAMESPACE_URL, f"protocol/{DIALECT}/{node.site.config.site}/{node.first_slot}").bytes
        self.is_drained = False

    def plan(self, kind: str, request: Request, gpus: tuple[int, ...], at_s: float) -> Plan:
        """What a write would do.

        Raises:
            ProblemError: the node is not in a state to do it.
        """
        if kind in ("drain", "undrain"):
            return Plan("", lambda _operation, _at_s: self._drain(kind == "drain"))
        if kind == "reboot":
            return Plan("reboot", self._come_back)
        if isinstance(request, Reset):
            return self._reset(request, gpus)
        if isinstance(request, Parking) and kind == "stop":
            return self._stop(request, gpus)
        self._check_on_bus(gpus, at_s)
        return self._plan_work(kind, request, gpus, at_s)

    def go_down(self, gpus: tuple[int, ...], at_s: float) -> None:
        """The host stops: nothing runs any more."""
        for one in self._table.live_on(gpus):
            one.enter(Phase.FAILED, at_s, "the node was rebooted")
        self._set_state(CURTAILED, gpus)

    def _plan_work(self, kind: str, request: Request, gpus: tuple[int, ...], at_s: float) -> Plan:
        match request:
            case Start():
                return self._start(request, gpus, at_s)
            case Pause():
                return self._pause(request, gpus)
            case Parking() if kind == "checkpoint":
                return self._checkpoint(request, gpus)
            case PowerCap():
                return Plan(
                    "power-cap", lambda done, now_s: self._hardware.set_power_cap(done.gpus, request.cap_w, now_s)
                )
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
        self._check_state(fresh.state)
        for old in before:
            old.enter(Phase.STOPPED, at_s, f"replaced by {name}")
        self._table.add(fresh)
        self._rest(gpus, is_parked=False)
        row = "start/training" if fresh.workload_class == TRAINING else f"start/{fresh.size}/{request.load}"
        return Plan(row, self._run, (fresh,))

    def _pause(self, request: Pause, gpus: tuple[int, ...]) -> Plan:
        found = self._table.in_phase(gpus, {Phase.RUNNING, Phase.PAUSED})
        if any(one.workload_class == TRAINING for one in found):
            raise conflict("not-pausable", "training has no sleep mode; checkpoint it")

        def finish(operation: Operation, at_s: float) -> None:
            for one in operation.workloads:
                one.enter(Phase.PAUSED, at_s)
                one.level = request.level
            self._rest(operation.gpus, is_parked=request.park)

        return Plan(f"pause/{request.level}", finish, found)

    def _checkpoint(self, request: Parking, gpus: tuple[int, ...]) -> Plan:
        found = self._table.in_phase(gpus, {Phase.RUNNING, Phase.CHECKPOINTED})
        wide = next((one for one in found if one.workload_class != TRAINING and len(one.gpus) > 1), None)
        if wide is not None:
            detail = f"{wide.workload_id} runs on {len(wide.gpus)} GPUs: a CUDA checkpoint restores one GPU; pause it"
            raise conflict("checkpoint-multi-gpu", detail, workload=wide.workload_id)

        def finish(operation: Operation, at_s: float) -> None:
            for one in operation.workloads:
                one.enter(Phase.CHECKPOINTED, at_s)
                one.method = _method(one)
            self._rest(operation.gpus, is_parked=request.park)

        return Plan(_slowest([f"checkpoint/{_method(one)}" for one in found]), finish, found)

    def _resume(self, gpus: tuple[int, ...]) -> Plan:
        self._check_open()
        found = self._table.in_phase(gpus, {Phase.PAUSED, Phase.CHECKPOINTED, Phase.RUNNING})
        rows = [
            f"resume/{one.method}" if one.phase is Phase.CHECKPOINTED else f"resume/{one.level or 1}/{one.size}"
            for one in found
        ]
        return Plan(_slowest(rows), self._run, found)

    def _stop(self, request: Parking, gpus: tuple[int, ...]) -> Plan:
        found = self._table.whole_on(gpus)

        def finish(operation: Operation, at_s: float) -> None:
            for one in operation.workloads:
                one.enter(Phase.STOPPED, at_s, "stopped")
            self._rest(operation.gpus, is_parked=request.park)

        return Plan("stop", finish, tuple(found))

    def _reset(self, request: Reset, gpus: tuple[int, ...]) -> Plan:
        in_use = self._table.whole_on(gpus)
        if in_use and not request.force:
            detail = f"{in_use[0].workload_id} runs on it; stop it, or send force: true"
            raise conflict("in-use", detail, workload=in_use[0].workload_id)

        def finish(operation: Operation, at_s: float) -> None:
            for one in operation.workloads:
                one.enter(Phase.FAILED, at_s, "its GPU was reset")
            self._check_on_bus(operation.gpus, at_s)
            self._hardware.reset(operation.gpus, at_s)
            self._rest(operation.gpus, is_parked=False)

        return Plan("reset", finish, tuple(in_use))

    def _drain(self, is_drained: bool) -> None:
        self.is_drained = is_drained

    def _come_back(self, operation: Operation, at_s: float) -> None:
        self._hardware.restart(MOST_CAP_W, at_s)
        self._rest(operation.gpus, is_parked=False)

    def _run(self, operation: Operation, at_s: float) -> None:
        """Its workloads run from now on."""
        if any(not self._hardware.is_on_bus(index, at_s) for index in operation.gpus):
            for one in operation.workloads:
                one.enter(Phase.FAILED, at_s, "its GPU has fallen off the bus")
            self._check_on_bus(operation.gpus, at_s)
        for one in operation.workloads:
            if one.phase in LIVE:
                self._set_state(one.state, one.gpus)
                one.enter(Phase.RUNNING, at_s)
                one.xids = running_xids(self._hardware, one, at_s)

    def _rest(self, gpus: tuple[int, ...], *, is_parked: bool) -> None:
        """GPUs do nothing from now on: idle, or in their lowest power state where asked for or where idle is none of theirs."""
        self._set_state(CURTAILED if is_parked or IDLE not in self._node.states else IDLE, gpus)

    def _set_state(self, state: int, gpus: tuple[int, ...]) -> None:
        self._transitions.set_state(self._node.site, self._ref, 0, state, self._hardware.slots(gpus))

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
