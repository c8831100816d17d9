"""What becomes of work whose Job is suspended: its pods are followed to their end, and what they said there is told.

A pod that was seen to end has said it; one that is gone unseen has not. Who comes back after a restart follows those that are
ending yet.
"""

import asyncio

from hcp_pipelines.devices.kubernetes.codec import FACILITY, Job
from hcp_pipelines.devices.kubernetes.mirror import Mirror
from hcp_pipelines.devices.kubernetes.pods import Ended, Pod, decode_pod
from hcp_pipelines.devices.kubernetes.slots import Cluster
from hcp_pipelines.devices.kubernetes.transport import ApiTransport
from hcp_pipelines.devices.switches import Saved, SwitchBook, tell_saved
from hcp_pipelines.domain.clock import Clock

SLACK_S = 10.0  # real: until a watch tells of an end
LOOK_S = 1.0  # real: at the deadline also where nothing is heard
UNSEEN = Ended("", "its pod was gone before anybody had read what it said")


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
        """Tell what the pods of a Job that is suspended say at their end; nothing where it is nobody's work."""
        if job.work and job.name not in self._following:
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
            ends = await self._ends(job, over)
        finally:
            self._following.pop(job.name, None)
            self._gone.pop(job.name, None)
        problem = next((end.problem for end in ends if end.problem), "")
        name = "" if problem else max(end.checkpoint for end in ends)
        await tell_saved(self._book, Saved(job.work, (job.slot,), name, problem))

    async def _ends(self, job: Job, over: frozenset[str]) -> list[Ended]:
        """What each of its pods said, once all have; at least one."""
        until_s, seen = self._clock.now().timestamp() + self._within_s + SLACK_S * self._clock.speed, dict[str, Pod]()
        while True:
            there = {pod.name: pod for pod in self.pods.with_key(job.name) if pod.name not in over}
            seen |= there | self._gone[job.name]
            still = [pod for pod in there.values() if pod.ended is None]
            if seen and not still:
                return [pod.ended or UNSEEN for pod in seen.values()]
            left_s = (until_s - self._clock.now().timestamp()) / self._clock.speed
            if left_s <= 0:
                return [Ended("", f"its pod has not ended within {self._within_s:g} s" if still else UNSEEN.problem)]
            await self._changed(min(left_s, LOOK_S))

    async def _changed(self, within_s: float) -> None:
        try:
            async with asyncio.timeout(within_s), self.pods.changed:
                await self.pods.changed.wait()
        except TimeoutError:
            return
