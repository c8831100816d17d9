"""From prices to commands on their way: every facility is planned, waves are journalled together, and what may leave is sent.

Nothing waits for an ack here. When to plan is the service's to say, what to do the owners'.
"""

import asyncio
from collections.abc import Mapping, Sequence

from hcp_pipelines.allocator import metrics
from hcp_pipelines.allocator.control import FacilityControl
from hcp_pipelines.allocator.late_commits import LateCommits
from hcp_pipelines.allocator.market import MarketBook
from hcp_pipelines.allocator.store import STORE_ERRORS, Store
from hcp_pipelines.allocator.wave import Wave
from hcp_pipelines.allocator.writer import JournalWriter
from hcp_pipelines.runtime.process import ProcessContext

HISTORY_AFTER_S = 0.05  # of a wave: when its acks are in
STORE_AGAIN_S = 0.1


class Planner:
    """Plans for the facilities of one allocator; one round at a time."""

    def __init__(
        self,
        context: ProcessContext,
        name: str,
        store: Store,
        book: MarketBook,
        controls: Mapping[str, FacilityControl],
        writer: JournalWriter,
        late: LateCommits,
    ) -> None:
        self._context, self._name, self._store, self._book = context, name, store, book
        self._controls, self._writer, self._late = controls, writer, late
        self._sent: list[tuple[FacilityControl, Wave]] = []  # and not in the history yet

    async def plan(self) -> None:
        """Every facility once, and all waves in one commit: leaving in parts costs 10 ms at p95 (docs/benchmarks.md)."""
        controls = [control for control in self._controls.values() if self._is_owned(control)]
        waves = [(control, wave) for control in controls if (wave := control.plan(self._book)) is not None]
        not_done = [row for control in controls for row in control.owner.take_would_be()]
        self._writer.note(not_done, [row for control in controls for row in control.owner.take_paper()])
        if waves:
            await self._leave(waves)
        self._writer.note(desired=[row for control in controls for row in control.owner.take_work_news()])

    def note_history(self) -> None:
        """What was sent since the last call goes to the history."""
        sent, self._sent = self._sent, []
        self._writer.note([row for control, wave in sent for row in control.owner.history(wave)])

    async def _leave(self, waves: Sequence[tuple[FacilityControl, Wave]]) -> None:
        """Journal some waves in one commit, and send those that may still leave."""
        stood = await self._journal([wave for _, wave in waves])
        journalled_ns = self._context.clock.monotonic_ns()
        for control, wave in waves:
            if wave.facility_id in stood and self._is_owned(control) and control.may_send():
                control.send(wave, journalled_ns)
                self._sent.append((control, wave))
            else:
                control.give_up(wave)
        asyncio.get_running_loop().call_later(HISTORY_AFTER_S, self.note_history)

    def _is_owned(self, control: FacilityControl) -> bool:
        """Whether the facility is still ours: that may have ended while its wave was journalled."""
        is_current = self._controls.get(control.site.facility_id) is control
        return is_current and control.lease.holds(self._context.clock.monotonic_s())

    async def _journal(self, waves: Sequence[Wave]) -> set[str]:
        """Write the waves before they leave; those facilities whose lease stood. Nothing, when Postgres is away."""
        try:
            return await self._store.write_commands(self._name, [row for wave in waves for row in wave.rows])
        except STORE_ERRORS as error:
            metrics.POSTGRES_ERRORS.labels("commands").inc()
            for wave in waves:
                self._late.expect(wave.facility_id)
            self._context.log.warning("no command is sent: the journal can't be written", error=str(error).strip())
            await asyncio.sleep(STORE_AGAIN_S)
            return set()
