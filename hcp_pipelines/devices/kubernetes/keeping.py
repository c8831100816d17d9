"""What becomes of work whose Job is suspended: its pods are followed to their end, and what they said there is told.

A pod that was seen to end has said it; one that is gone unseen has not. Of several the one that ended last has the last word. Who
comes back after a restart follows those that are ending yet.
"""

import asyncio

from hcp_pipelines.devices.kubernetes.codec import FACILITY, Job
from hcp_pipelines.devices.kubernetes.mirror import WATCH_SLACK_S, Mirror
from hcp_pipelines.devices.kubernetes.pods import UNSEEN, Ended, Pod, decode_pod, last_word
from hcp_pipelines.devices.kubernetes.slots import Cluster
from hcp_pipelines.devices.kubernetes.transport import ApiTransport
from hcp_pipelines.devices.switches import NAMELESS, Saved, SwitchBook, tell_saved
from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.modes import DeviceState

LOOK_S = 1.0  # real: at the deadline also where nothing is heard


class Keeping:
    """The pods of a facility's Jobs, and those whose end is waited for."""

    def __init__(
        self,
        cluster: Cluster,
        transport: ApiTransport,
        jobs: Mirror[Job],
        within_s: float,
        clock: Clock,
        book: SwitchBook,
    ) -> None:
        """`within_s`: simulated seconds that a pod may take for its end."""
        self.pods = Mirror(
            transport,
            cluster.pods_path,
            {FACILITY: cluster.facility_id},
            decode_pod,
            lambda pod: pod.job,
            self._gone_one,
        )
        self._jobs, self._within_s, self._clock, self._book = jobs, within_s, clock, book
        self._following: dict[str, asyncio.Task[None]] = {}  # by Job
        self._gone: dict[str, dict[str, Pod]] = {}  # by Job that is followed, and pod

    def over(self, job: Job) -> frozenset[str]:
        """Pods of a Job that have ended before it is told to let go."""
        return frozenset(pod.name for pod in self.pods.with_key(job.name) if pod.ended is not None)

    def unfit_of(self, name: str) -> str:
        """Why the pods of a Job can't run what they were told to; empty where none says so."""
        return next((pod.unfit for pod in self.pods.with_key(name) if pod.unfit), "")

    def follow(self, job: Job, over: frozenset[str] = frozenset()) -> None:
        """Tell what the pods of a Job that is suspended say at their end; nothing where it is nobody's work.

        One that was suspended before, and resumed since, is followed anew: only what its pods say now is what it has kept.
        """
        if not job.work:
            return
        if (earlier := self._following.get(job.name)) is not None:
            earlier.cancel()
        self._gone[job.name] = {}
        self._following[job.name] = asyncio.create_task(self._follow(job, over))

    def follow_left(self) -> None:
        """Those whose pods were ending as this process came."""
        for job in self._jobs.objects.values():
            if job.is_suspended and self.pods.with_key(job.name):
                self.follow(job)

    async def close(self) -> None:
        """Follow none any more."""
        tasks = list(self._following.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._following.clear()
        self._gone.clear()

    def _gone_one(self, pod: Pod) -> None:
        if pod.job in self._gone:
            self._gone[pod.job][pod.name] = pod

    async def _follow(self, job: Job, over: frozenset[str]) -> None:
        try:
            said = await self._said(job, over)
        finally:
            if self._following.get(job.name) is asyncio.current_task():
                del self._following[job.name], self._gone[job.name]
        problem = said.problem
        if not problem and not said.checkpoint and job.state is DeviceState.TRAINING:
            problem = NAMELESS
        await tell_saved(self._book, Saved(job.work, (job.slot,), said.checkpoint, problem))

    async def _said(self, job: Job, over: frozenset[str]) -> Ended:
        """What its pods have said, once all have ended; at least one."""
        until_s, seen = (
            self._clock.now().timestamp() + self._within_s + WATCH_SLACK_S * self._clock.speed,
            dict[str, Pod](),
        )
        while True:
            there = {pod.name: pod for pod in self.pods.with_key(job.name) if pod.name not in over}
            seen |= there | self._gone[job.name]
            still = [pod for pod in there.values() if pod.ended is None]
            if seen and not still:
                return last_word(list(seen.values()))
            left_s = (until_s - self._clock.now().timestamp()) / self._clock.speed
            if left_s <= 0:
                return Ended("", f"its pod has not ended within {self._within_s:g} s") if still else UNSEEN
            await self._changed(min(left_s, LOOK_S))

    async def _changed(self, within_s: float) -> None:
        try:
            async with asyncio.timeout(within_s), self.pods.changed:
                await self.pods.changed.wait()
        except TimeoutError:
            return
