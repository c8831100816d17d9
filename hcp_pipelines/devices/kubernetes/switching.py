"""One slot told a state: suspend what runs, start what is wanted once that has ended; back to what ran if that fails.

The phases and the record are those of `devices.switches`. A pod that ends has its grace period to write its checkpoint in, so
that pause and checkpoint are one request here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import structlog

from hcp_pipelines.devices.gpu_node.values import WorkloadSpec
from hcp_pipelines.devices.kubernetes.codec import Job
from hcp_pipelines.devices.kubernetes.keeping import Keeping
from hcp_pipelines.devices.kubernetes.mirror import WATCH_SLACK_S
from hcp_pipelines.devices.kubernetes.slots import SlotJobs
from hcp_pipelines.devices.switches import Outcome, Phase, Stage, Switch, SwitchBook
from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.errors import (
    DeviceRefusedError,
    DeviceReplyError,
    DeviceUnreachableError,
    StorageError,
)
from hcp_pipelines.domain.modes import RESTING, DeviceState

TRIES = 4  # of a request that may pass
AGAIN_S = (0.1, 0.3, 1.0)  # real
_FAILURES = (DeviceRefusedError, DeviceUnreachableError, DeviceReplyError)


@dataclass(frozen=True, slots=True)
class SlotOrder:
    """A state for a slot; `is_newest` says whether nobody wants something else since."""

    command_id: str
    index: int
    slot: int
    node: str
    state: DeviceState
    work: WorkloadSpec | None
    spec: WorkloadSpec
    is_newest: Callable[[], bool]


class SlotSwitcher:
    """Tells slots of one site."""

    def __init__(
        self, slots: SlotJobs, keeping: Keeping, within_s: Mapping[Phase, float], clock: Clock, book: SwitchBook
    ) -> None:
        self._slots, self._keeping, self._within_s, self._clock, self._book = slots, keeping, within_s, clock, book
        self._log = structlog.get_logger("devices.kubernetes")

    async def tell(self, order: SlotOrder) -> Switch | None:
        """Have a slot go into a state; a switch of what runs, whose end `watch` waits for; None: nothing is left to do.

        Raises:
            DeviceRefusedError, DeviceUnreachableError, DeviceReplyError: it was not told; what ran before runs on.
        """
        found = self._book.find((order.command_id, order.index, order.node, (order.slot,)))
        if found is not None and found.stage is not Stage.FORWARD:
            if found.stage is Stage.ROLL_BACK:
                await self._back(order, found, found.problem)
            raise DeviceRefusedError(f"slot {order.slot}: {found.outcome or Outcome.ROLLED_BACK}: {found.problem}")
        running = self._slots.running(order.slot)
        if order.state in RESTING:
            for job in running:
                await self._let_go(job)
            return None
        name = self._slots.name_of(order.slot, order.state, order.spec)
        others = [job for job in running if job.name != name]
        if not others and found is None:
            if not running:
                await _again(lambda: self._start(order))
            return None
        return await self._switch(order, found or self._begun(order, others[0]), others)

    async def watch(self, order: SlotOrder, switch: Switch) -> None:
        """Wait until what was started is ready; else back."""
        name, began_s = self._slots.name_of(order.slot, order.state, order.spec), self._clock.now().timestamp()
        is_ready = await self._is_ready(
            order, name, began_s + self._within_s[Phase.START] + WATCH_SLACK_S * self._clock.speed
        )
        took_ms = (self._clock.now().timestamp() - began_s) * 1000
        if not order.is_newest():
            await self._end(switch, Outcome.SUPERSEDED)
        elif is_ready:
            await self._end(replace(switch, device_ms={**switch.device_ms, Phase.START: took_ms}), Outcome.SWITCHED)
        else:
            late = f"start: Job {name} not ready within {self._within_s[Phase.START]:g} s"
            await self._back(order, switch, self._note_unfit(order, name) or late)

    async def watch_fresh(self, order: SlotOrder) -> None:
        """Where nothing ran before: what can't run what it was told to is said to be so, and suspended."""
        name = self._slots.name_of(order.slot, order.state, order.spec)
        until_s = self._clock.now().timestamp() + self._within_s[Phase.START] + WATCH_SLACK_S * self._clock.speed
        is_ready = await self._is_ready(order, name, until_s)
        if not is_ready and order.is_newest() and self._note_unfit(order, name):
            await _again(lambda: self._slots.suspend(name))

    def _note_unfit(self, order: SlotOrder, name: str) -> str:
        """Why its pods can't run what they were told to, noted; empty where they don't say so."""
        if problem := self._keeping.unfit_of(name):
            self._book.note_unfit(order.command_id, order.index, (order.slot,), problem)
        return problem

    def _begun(self, order: SlotOrder, job: Job) -> Switch:
        before = WorkloadSpec(gpus_each=1, workload_id=job.work, checkpoint=job.checkpoint)
        slots = (order.slot,)
        return Switch(
            order.command_id, order.index, order.node, slots, job.state, before, slots, order.state, order.work
        )

    async def _switch(self, order: SlotOrder, switch: Switch, others: list[Job]) -> Switch:
        await self._check(order)
        await self._book.keep(switch)
        began_s = self._clock.monotonic_s()
        try:
            for job in others:
                await self._let_go(job)
            paused_s = self._clock.monotonic_s()
            phase = Phase.CHECKPOINT if switch.from_state is DeviceState.TRAINING else Phase.PAUSE
            ended_ms = await self._ended(order, [job.name for job in others], phase)
            if not order.is_newest() or self._book.is_ended(order.command_id, order.index):
                return await self._end(switch, Outcome.SUPERSEDED)
            free_s = self._clock.monotonic_s()
            await _again(lambda: self._start(order))
        except _FAILURES as error:
            await self._back(order, switch, str(error))
            raise DeviceRefusedError(f"slot {order.slot}: rolled back: {error}") from error
        now_s = self._clock.monotonic_s()
        took = {phase: (paused_s - began_s) * 1000, Phase.START: (now_s - free_s) * 1000}
        return replace(switch, phases_ms=took, device_ms={phase: ended_ms}, total_ms=sum(took.values()))

    async def _let_go(self, job: Job) -> None:
        """Its pods end; what they say then is told."""
        over = self._keeping.over(job)
        await _again(partial(self._slots.suspend, job.name))
        self._keeping.follow(job, over)

    async def _check(self, order: SlotOrder) -> None:
        await _again(lambda: self._slots.check(order.slot, order.state, order.node, order.spec))

    async def _start(self, order: SlotOrder) -> None:
        await self._slots.start(order.slot, order.state, order.node, order.spec)

    async def _back(self, order: SlotOrder, switch: Switch, problem: str) -> None:
        """What ran before runs again; else nothing, and else it is said that nobody knows."""
        switch = replace(switch, stage=Stage.ROLL_BACK, problem=problem[:500])
        await self._keep(switch)
        wanted = self._slots.name_of(order.slot, order.state, order.spec)
        before = self._slots.name_of(order.slot, switch.from_state, switch.before)
        try:
            await _again(lambda: self._slots.suspend(wanted))
        except _FAILURES as error:
            await self._end(replace(switch, problem=f"{problem}; and to rest: {error}"[:500]), Outcome.STUCK)
            return
        if not order.is_newest():
            await self._end(switch, Outcome.SUPERSEDED)
            return
        try:
            await _again(lambda: self._slots.resume(before))
        except _FAILURES as error:
            await self._end(replace(switch, problem=f"{problem}; and back: {error}"[:500]), Outcome.RESTED)
            return
        await self._end(switch, Outcome.ROLLED_BACK)

    async def _ended(self, order: SlotOrder, names: list[str], phase: Phase) -> float:
        """Wait until the pods of suspended Jobs have let go of their GPUs; how long that took, ms of the devices' time.

        Raises:
            DeviceRefusedError: they have not by the phase's deadline.
        """
        began_s, jobs = self._clock.now().timestamp(), self._slots.jobs
        until_s = began_s + self._within_s[phase] + WATCH_SLACK_S * self._clock.speed
        while order.is_newest():
            left = [job for name in names if (job := jobs.objects.get(name)) and (job.active or job.terminating)]
            now_s = self._clock.now().timestamp()
            if not left:
                return (now_s - began_s) * 1000
            if now_s > until_s:
                raise DeviceRefusedError(f"{phase}: Job {left[0].name} not over within {self._within_s[phase]:g} s")
            await self._wait_for_change((until_s - now_s) / self._clock.speed)
        return 0.0

    async def _wait_for_change(self, left_s: float) -> None:
        """Until something is heard of a Job, a second, or so many real seconds."""
        try:
            async with asyncio.timeout(min(max(left_s, 0.0), 1.0)), self._slots.jobs.changed:
                await self._slots.jobs.changed.wait()
        except TimeoutError:
            return

    async def _is_ready(self, order: SlotOrder, name: str, until_s: float) -> bool:
        jobs = self._slots.jobs
        while (left_s := (until_s - self._clock.now().timestamp()) / self._clock.speed) > 0 and order.is_newest():
            job = jobs.objects.get(name)
            if job is not None and job.ready > 0:
                return True
            if job is None or job.ended == "Failed" or self._keeping.unfit_of(name):
                return False
            await self._wait_for_change(left_s)
        return False

    async def _end(self, switch: Switch, outcome: Outcome) -> Switch:
        ended = replace(switch, stage=Stage.OVER, outcome=outcome)
        if outcome not in (Outcome.SWITCHED, Outcome.SUPERSEDED):
            self._log.error("a switch is over", outcome=outcome.value, slot=switch.slots[0], problem=switch.problem)
        await self._keep(ended)
        return ended

    async def _keep(self, switch: Switch) -> None:
        """Devices come first: what can't be stored is done all the same, and said."""
        try:
            await self._book.keep(switch)
        except StorageError as error:
            self._log.error("how a switch stands could not be stored", error=str(error))


async def _again(ask: Callable[[], Awaitable[None]]) -> None:
    """Ask, and again what may pass.

    Raises:
        HcpError: as the last try.
    """
    for tries in range(TRIES):
        try:
            await ask()
        except (DeviceUnreachableError, DeviceReplyError):
            if tries == TRIES - 1:
                raise
            await asyncio.sleep(AGAIN_S[min(tries, len(AGAIN_S) - 1)])
        else:
            return
