"""Jobs at rest that nobody has resumed for long are deleted: else a namespace fills with those of former states and work.

A Job is made anew where it is wanted after all. Time counts from when this process first saw the Job as it is now.
"""

import asyncio
from collections.abc import Callable

import structlog

from hcp_pipelines.devices.kubernetes.codec import Job
from hcp_pipelines.devices.kubernetes.slots import SlotJobs
from hcp_pipelines.devices.switches import Stage, SwitchBook
from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.errors import HcpError

LOOKS, LONGEST_S = 4, 60.0  # looks within the time that Jobs are kept, real seconds between two of them


class Sweeper:
    """Deletes Jobs of one site."""

    def __init__(
        self, slots: SlotJobs, kept_s: float, clock: Clock, book: SwitchBook, lock: Callable[[int], asyncio.Lock]
    ) -> None:
        """`kept_s`: real seconds; `lock`: held by who tells a slot something."""
        self._slots, self._kept_s, self._clock, self._book, self._lock = slots, kept_s, clock, book, lock
        self._since_s: dict[tuple[str, str], float] = {}  # by name and version
        self._log = structlog.get_logger("devices.kubernetes")

    async def follow(self) -> None:
        """Sweep on and on; what can't be deleted is tried again at the next look."""
        while True:
            await self._sweep()
            await asyncio.sleep(min(self._kept_s / LOOKS, LONGEST_S))

    async def _sweep(self) -> None:
        now_s, before = self._clock.monotonic_s(), self._since_s
        resting = [job for job in self._slots.jobs.objects.values() if job.is_at_rest]
        self._since_s = {_key(job): before.get(_key(job), now_s) for job in resting}
        old = [job for job in resting if now_s - self._since_s[_key(job)] >= self._kept_s]
        gone = 0
        for job in old:
            try:
                gone += await self._delete(job)
            except HcpError as error:
                self._log.warning("a Job at rest could not be deleted", job=job.name, error=str(error))
                break  # the others would fare alike
        if gone:
            self._log.info("Jobs at rest were deleted", jobs=gone, kept_s=self._kept_s)

    async def _delete(self, job: Job) -> bool:
        """Whether it was; not where it has been resumed meanwhile, or a switch may go back to it."""
        async with self._lock(job.slot):
            under_way = {slot for one in self._book if one.stage is not Stage.OVER for slot in one.slots}
            if self._slots.jobs.objects.get(job.name) != job or job.slot in under_way:
                return False
            return await self._slots.delete_at_rest(job)


def _key(job: Job) -> tuple[str, str]:
    return job.name, job.version
