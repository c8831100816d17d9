"""A switch of GPUs that run something, in phases: pause or checkpoint, let go of it, start what is wanted; back if that fails.

Each phase has a deadline in simulated seconds. All requests' ids follow from the command, so that a switch that a killed
gateway left is simply asked for again from its first phase: what was done is known to the agent. What a switch came to is kept in
the book (`devices.switches`), before its first request, before a roll-back, and at its end.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import structlog

from hcp_pipelines.devices.gpu_node import metrics
from hcp_pipelines.devices.gpu_node.agent_codec import CLASS_OF_STATE, BusyError
from hcp_pipelines.devices.gpu_node.device import GpuNode
from hcp_pipelines.devices.gpu_node.fleet import Node
from hcp_pipelines.devices.gpu_node.steps import Gpus, in_parts
from hcp_pipelines.devices.gpu_node.values import GpuStatus, Operation, WorkloadSpec
from hcp_pipelines.devices.switches import (
    NAMELESS,
    Outcome,
    Phase,
    Saved,
    Stage,
    Switch,
    SwitchBook,
    newest_name,
    tell_saved,
)
from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.errors import (
    DeviceRefusedError,
    DeviceReplyError,
    DeviceUnreachableError,
    HcpError,
    StorageError,
    WorkUnfitError,
)
from hcp_pipelines.domain.modes import DeviceState

ASK_AGAIN_S = (0.05, 0.1, 0.25, 0.5, 1.0)  # real; of an agent that is away, busy, or answers before the end
LEAST_WAIT_S, WAIT_MOST_S = 0.01, 2.0  # real: so long an agent may take to tell of an end
UNKNOWN_STATE = 255

Ask = Callable[[], Awaitable[Operation]]


class PhaseError(HcpError):
    """A phase has failed: what ran before is to run again."""


class _NewerCommandError(HcpError):
    """Somebody wants something else of these GPUs now."""


_FAILURES = (PhaseError, DeviceRefusedError, DeviceUnreachableError, DeviceReplyError)


@dataclass(slots=True, eq=False)
class Order:
    """One switch that a command asks for; `started` is set when its last phase was accepted, or it is over without that."""

    node: Node
    device: GpuNode
    ticket: int
    request_id: str
    gpus: Gpus
    switch: Switch
    spec: WorkloadSpec  # what is to run
    asked_s: float  # monotonic
    started: asyncio.Event = field(default_factory=asyncio.Event)
    error: HcpError | None = None  # why it was not


class Run:
    """One switch under way."""

    def __init__(
        self, order: Order, within_s: Mapping[Phase, float], call_s: float, clock: Clock, book: SwitchBook
    ) -> None:
        """`within_s`: simulated; `call_s`: real, the time for one exchange, of which asking and hearing of the end are two."""
        self._order, self._within_s, self._clock, self._book = order, within_s, clock, book
        self._wait_s, self._slack_s = min(call_s / 2, WAIT_MOST_S), 2 * call_s * clock.speed
        self._switch = order.switch
        self._device_real_s: dict[Phase, float] = {}
        self._log = structlog.get_logger("devices.gpu_node").bind(
            node=order.node.address, gpus=list(order.gpus), command=order.switch.command_id
        )

    async def go(self) -> None:
        """Forward, or on with a roll-back that had begun."""
        try:
            if self._switch.stage is Stage.ROLL_BACK:
                raise PhaseError(self._switch.problem)
            await self._forward()
        except _NewerCommandError:
            await self._end(Outcome.SUPERSEDED)
        except _FAILURES as error:
            await self._back(error)

    async def _forward(self) -> None:
        order, switch, device = self._order, self._switch, self._order.device
        await self._book.keep(switch)
        if switch.from_state is DeviceState.TRAINING:
            await self._let_go(Phase.CHECKPOINT)
        else:
            await self._let_go(Phase.PAUSE)
        await self._phase(Phase.SWITCH, lambda: device.stop(order.gpus, self._id("stop")))
        if self._book.is_ended(switch.command_id, switch.index):
            raise _NewerCommandError("it was judged before it could begin")
        await self._start()
        await self._end(Outcome.SWITCHED)

    async def _let_go(self, phase: Phase) -> None:
        """What runs is put to sleep, training with a checkpoint; whether that is kept is told, where it is somebody's.

        Raises:
            PhaseError: as `_phase`.
        """
        order, before = self._order, self._switch.before
        try:
            await self._phase(phase, lambda: order.device.sleep(phase, order.gpus, self._id(phase)))
        except _FAILURES as error:
            await self._tell_saved(Saved(before.workload_id, self._switch.before_slots, problem=str(error)[:500]))
            raise
        name, problem = "", ""
        if phase is Phase.CHECKPOINT and before.workload_id:
            there = await self._free_status(order.gpus)
            name = newest_name(one.saved for one in there if one.work == before.workload_id)
            problem = "" if name else NAMELESS  # and what sleeps there is let go of next
        await self._tell_saved(Saved(before.workload_id, self._switch.before_slots, name, problem))

    async def _tell_saved(self, saved: Saved) -> None:
        if saved.workload_id:
            await tell_saved(self._book, saved)

    async def _start(self) -> None:
        """The last phase: each copy is asked for, then all are waited for."""
        order, state = self._order, self._switch.to_state
        until_s, asked_s = self._until_s(Phase.START), self._clock.monotonic_s()
        begun = []
        for part in in_parts(order.gpus, order.spec.gpus_each):
            begin = partial(order.device.start, state, part, order.spec, self._id("start", part))
            begun.append(await self._accepted(Phase.START, begin, until_s))
        self._note(Phase.START, (self._clock.monotonic_s() - asked_s) * 1000)
        order.started.set()
        ended = await asyncio.gather(*(self._done(Phase.START, one, until_s) for one in begun), return_exceptions=True)
        if failed := next((one for one in ended if one is not None), None):
            raise failed

    # -- phases -------------------------------------------------------------------------------------------------------

    async def _phase(self, phase: Phase, ask: Ask) -> None:
        """Ask, and wait for its end.

        Raises:
            PhaseError: it has failed, or its time is over.
        """
        until_s, asked_s = self._until_s(phase), self._clock.monotonic_s()
        operation = await self._accepted(phase, ask, until_s)
        self._note(phase, (self._clock.monotonic_s() - asked_s) * 1000)
        await self._done(phase, operation, until_s)

    async def _accepted(self, phase: Phase, ask: Ask, until_s: float) -> Operation:
        tries = 0
        while True:
            self._check_newest()
            try:
                return await ask()
            except (BusyError, DeviceUnreachableError, DeviceReplyError) as error:
                await self._again(phase, until_s, tries, str(error))
                tries += 1

    async def _done(self, phase: Phase, operation: Operation, until_s: float) -> None:
        accepted_s = self._clock.monotonic_s()
        operation = await self._ended(phase, operation, until_s)
        metrics.OPERATIONS.labels(operation.state).inc()
        waited_s = self._clock.monotonic_s() - accepted_s
        real_s = min(operation.took_s / self._clock.speed, waited_s)
        self._device_real_s[phase] = max(self._device_real_s.get(phase, 0.0), real_s)
        took_ms = max(self._switch.device_ms.get(phase, 0.0), operation.took_s * 1000)  # of copies: the slowest
        self._switch = replace(self._switch, device_ms={**self._switch.device_ms, phase: took_ms})
        metrics.PHASE_DEVICE_SECONDS.labels(phase.value).observe(operation.took_s)
        if operation.state != "succeeded":
            kind = WorkUnfitError if operation.is_works_own else PhaseError
            raise kind(f"{phase}: {operation.problem or operation.state}")

    async def _ended(self, phase: Phase, operation: Operation, until_s: float) -> Operation:
        """The same operation once it has ended; an agent that does not wait with its answer is asked ever more rarely."""
        tries = 0
        while operation.is_running:
            self._check_newest()
            asked_s, why = self._clock.monotonic_s(), "not done"
            left_s = (until_s - self._clock.now().timestamp()) / self._clock.speed
            wait_s = min(self._wait_s, max(left_s, LEAST_WAIT_S))
            try:
                operation = await self._order.device.read_operation(operation.operation_id, wait_s)
            except (DeviceUnreachableError, DeviceReplyError) as error:
                why = str(error)
            has_waited = self._clock.monotonic_s() - asked_s > wait_s / 2
            if not operation.is_running:
                break
            if has_waited:  # it is asked again at once: its end is told the moment it comes
                self._check_time(phase, until_s, why)
                tries = 0
            else:
                await self._again(phase, until_s, tries, why)
                tries += 1
        return operation

    def _until_s(self, phase: Phase) -> float:
        return self._clock.now().timestamp() + self._within_s[phase] + self._slack_s

    def _check_time(self, phase: Phase, until_s: float, why: str) -> None:
        if self._clock.now().timestamp() > until_s:
            raise PhaseError(f"{phase}: not done within {self._within_s[phase]:g} s: {why}")

    async def _again(self, phase: Phase, until_s: float, tries: int, why: str) -> None:
        self._check_time(phase, until_s, why)
        await asyncio.sleep(ASK_AGAIN_S[min(tries, len(ASK_AGAIN_S) - 1)])

    def _note(self, phase: Phase, took_ms: float) -> None:
        metrics.PHASE_SECONDS.labels(phase.value).observe(took_ms / 1000)
        self._switch = replace(self._switch, phases_ms={**self._switch.phases_ms, phase: took_ms})

    def _check_newest(self) -> None:
        order = self._order
        if any(order.node.tickets[gpu] != order.ticket for gpu in order.gpus):
            raise _NewerCommandError("a newer command")

    def _id(self, step: str, gpus: Gpus | None = None) -> str:
        return f"{self._order.request_id}.{step}.{'-'.join(map(str, gpus or self._order.gpus))}"

    # -- and back -----------------------------------------------------------------------------------------------------

    async def _back(self, error: HcpError) -> None:
        """What ran before runs again; else nothing, and else it is said that nobody knows."""
        if self._book.find(self._switch.key) is None:
            self._order.error = error  # nothing was asked for yet
            return
        if isinstance(error, WorkUnfitError):
            self._book.note_unfit(self._switch.command_id, self._switch.index, self._switch.slots, str(error))
            self._order.error = WorkUnfitError(str(error))
        else:
            self._order.error = DeviceRefusedError(f"{self._order.node.address}: rolled back: {error}")
        self._order.started.set()
        self._switch = replace(self._switch, stage=Stage.ROLL_BACK, problem=str(error)[:500])
        self._log.warning("a switch has failed and is rolled back", problem=str(error))
        try:
            await self._keep()
            await self._restore()
        except _NewerCommandError:
            await self._end(Outcome.SUPERSEDED)
        except _FAILURES as second:
            self._switch = replace(self._switch, problem=f"{error}; and back: {second}"[:500])
            await self._rest()
        else:
            self._want(self._switch.from_state)
            await self._end(Outcome.ROLLED_BACK)

    async def _restore(self) -> None:
        """Wake what ran before if it still sleeps there, else start it again."""
        device, switch = self._order.device, self._switch
        ran = tuple(slot - self._order.node.first_slot for slot in switch.before_slots)
        phases = {
            one.workload_phase if one.workload_class == CLASS_OF_STATE[switch.from_state] else "another"
            for one in await self._free_status(ran)
        }
        if phases == {"running"}:
            return
        if phases and phases <= {"paused", "checkpointed"}:
            await self._ask(Phase.START, lambda: device.resume(ran, self._id("undo-wake", ran)))
            return
        await self._ask(Phase.SWITCH, lambda: device.stop(self._order.gpus, self._id("undo-stop")))
        for part in in_parts(ran, switch.before.gpus_each):
            again = partial(device.start, switch.from_state, part, switch.before, self._id("undo-start", part))
            await self._ask(Phase.START, again)

    async def _free_status(self, gpus: Gpus) -> list[GpuStatus]:
        """What GPUs do, once nothing is under way there."""
        order, tries, until_s = self._order, 0, self._until_s(Phase.START)
        while True:
            self._check_newest()
            try:
                there = [one for one in await order.device.read_status() if one.index in gpus]
                busy = next((one.operation_id for one in there if one.operation_id), None)
                if busy is None:
                    return there
                await order.device.read_operation(busy, self._wait_s)
                await self._again(Phase.START, until_s, 0, f"{busy} is under way")
            except (DeviceUnreachableError, DeviceReplyError) as error:
                await self._again(Phase.START, until_s, tries, str(error))
                tries += 1

    async def _rest(self) -> None:
        """Neither runs: the GPUs rest, which draws least."""
        order = self._order
        park = not order.node.group.has(DeviceState.IDLE)
        try:
            await self._ask(Phase.SWITCH, lambda: order.device.stop(order.gpus, self._id("undo-rest"), park=park))
        except _NewerCommandError:
            await self._end(Outcome.SUPERSEDED)
        except _FAILURES as error:
            self._switch = replace(self._switch, problem=f"{self._switch.problem}; and to rest: {error}"[:500])
            self._want(UNKNOWN_STATE)
            await self._end(Outcome.STUCK)
        else:
            self._want(DeviceState.CURTAILED if park else DeviceState.IDLE)
            await self._end(Outcome.RESTED)

    async def _ask(self, phase: Phase, ask: Ask) -> None:
        """As a phase, and not counted as one of the switch."""
        until_s = self._until_s(phase)
        await self._ended_well(phase, await self._accepted(phase, ask, until_s), until_s)

    async def _ended_well(self, phase: Phase, operation: Operation, until_s: float) -> None:
        operation = await self._ended(phase, operation, until_s)
        if operation.state != "succeeded":
            raise PhaseError(f"{operation.kind}: {operation.problem or operation.state}")

    def _want(self, state: int) -> None:
        """What its GPUs are for from now on: who mends an XID goes by it."""
        for gpu in self._order.gpus:
            self._order.node.wanted[gpu] = state

    # -- the end ------------------------------------------------------------------------------------------------------

    async def _end(self, outcome: Outcome) -> None:
        total_ms = max(
            (self._clock.monotonic_s() - self._order.asked_s - sum(self._device_real_s.values())) * 1000, 0.0
        )
        self._switch = replace(self._switch, stage=Stage.OVER, outcome=outcome, total_ms=total_ms)
        self._order.switch = self._switch
        self._order.node.is_status_old = True
        metrics.SWITCHES.labels(outcome.value).inc()
        if outcome is Outcome.SWITCHED:
            metrics.SWITCH_SECONDS.observe(total_ms / 1000)
        elif outcome is not Outcome.SUPERSEDED:
            self._log.error("a switch is over", outcome=outcome.value, problem=self._switch.problem)
        await self._keep()

    async def _keep(self) -> None:
        """Devices come first: what can't be stored is done all the same, and said."""
        try:
            await self._book.keep(self._switch)
        except StorageError as error:
            self._log.error("how a switch stands could not be stored", error=str(error))
