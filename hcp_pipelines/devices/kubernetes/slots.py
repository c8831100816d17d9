"""Slots as Jobs: which Job runs for which slot, and how one is brought to an end and another begun.

A slot's state is that of its Job that is not suspended; without one it rests. Requests are absolute and carry the version that
they were made for, so that a repetition is harmless and a conflict is read anew.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from hcp_pipelines.devices.gpu_node.values import WorkloadSpec
from hcp_pipelines.devices.kubernetes.codec import (
    MERGE_PATCH,
    Image,
    Job,
    Json,
    encode_delete,
    encode_job,
    encode_suspend,
    job_name,
)
from hcp_pipelines.devices.kubernetes.mirror import Mirror
from hcp_pipelines.devices.kubernetes.transport import ApiTransport
from hcp_pipelines.domain.errors import DeviceRefusedError, DeviceUnreachableError
from hcp_pipelines.domain.modes import DeviceState

CONFLICT, NOT_FOUND = 409, 404
TRIES = 6
AGAIN_S = (0.05, 0.1, 0.2, 0.5, 1.0)  # real


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where Jobs are, and what runs in which state."""

    facility_id: str
    namespace: str
    images: Mapping[DeviceState, Image]

    @property
    def jobs_path(self) -> str:
        """Of the Jobs."""
        return f"/apis/batch/v1/namespaces/{self.namespace}/jobs"

    @property
    def pods_path(self) -> str:
        """Of their pods."""
        return f"/api/v1/namespaces/{self.namespace}/pods"


class SlotJobs:
    """The Jobs of a facility's slots."""

    def __init__(self, cluster: Cluster, transport: ApiTransport, jobs: Mirror[Job]) -> None:
        self._cluster, self._transport, self.jobs = cluster, transport, jobs

    def running(self, slot: int) -> list[Job]:
        """Jobs that have a slot's GPU, or are to have it."""
        return [job for job in self.jobs.with_key(slot) if job.is_running]

    def drawing(self) -> dict[int, DeviceState]:
        """The state as which each slot's pod should draw by now: one that is ready, or has not ended yet; others rest."""
        jobs = self.jobs.objects.values()
        ending = {job.slot: job.state for job in jobs if job.terminating}
        return ending | {job.slot: job.state for job in jobs if job.is_running and job.ready}

    def by_slot(self) -> dict[int, Job]:
        """The Job that runs on each slot; slots that rest are left out."""
        return {job.slot: job for job in self.jobs.objects.values() if job.is_running}

    def name_of(self, slot: int, state: DeviceState, spec: WorkloadSpec) -> str:
        """Name of the Job that some work in a state has on a slot."""
        return job_name(self._cluster.facility_id, slot, state, spec.workload_id)

    async def suspend(self, name: str) -> None:
        """Have a Job's pods end; one that is gone runs no more.

        Raises:
            DeviceUnreachableError, DeviceRefusedError, DeviceReplyError: it may go on.
        """
        await self._set_suspended(name, is_suspended=True)

    async def start(self, slot: int, state: DeviceState, node: str, spec: WorkloadSpec) -> None:
        """Have a Job run: the one there is resumed, else one is made.

        One that has ended makes way, and so does one whose pods would go on from another checkpoint.

        Raises:
            DeviceUnreachableError, DeviceRefusedError, DeviceReplyError: it may not run.
        """
        name = self.name_of(slot, state, spec)
        for tries in range(TRIES):
            job = self.jobs.objects.get(name)
            if job is not None and not job.is_going and (job.ended or _is_behind(job, spec)):
                await self._delete(name)
            elif job is None or job.is_going:
                if await self._create(slot, state, node, spec):
                    return
            elif await self._set_suspended(name, is_suspended=False):
                return
            await asyncio.sleep(AGAIN_S[min(tries, len(AGAIN_S) - 1)])
            await self._read(name)
        raise DeviceUnreachableError(f"Job {name}: another version at each of {TRIES} tries")

    async def check(self, slot: int, state: DeviceState, node: str, spec: WorkloadSpec) -> None:
        """Whether the server would take the Job: asked before anything that runs is ended.

        Raises:
            DeviceUnreachableError, DeviceRefusedError, DeviceReplyError: it would not.
        """
        await self._post(slot, state, node, spec, {"dryRun": "All"})

    async def resume(self, name: str) -> None:
        """Have a Job run again that was suspended.

        Raises:
            DeviceRefusedError: it is gone.
            DeviceUnreachableError, DeviceReplyError: as the transport.
        """
        if not await self._set_suspended(name, is_suspended=False):
            raise DeviceRefusedError(f"Job {name} is gone")

    async def delete_at_rest(self, job: Job) -> bool:
        """Delete a Job unless it has changed since it was seen at rest; whether it was deleted.

        Raises:
            DeviceUnreachableError, DeviceRefusedError, DeviceReplyError: it may be there yet.
        """
        return await self._delete(job.name, encode_delete(job.version))

    async def _set_suspended(self, name: str, *, is_suspended: bool) -> bool:
        """Whether the Job is there."""
        for tries in range(TRIES):
            job = self.jobs.objects.get(name)
            if job is None:
                return False
            if job.is_suspended == is_suspended and tries:
                return True  # read just now
            answer = await self._transport.call(
                "PATCH",
                f"{self._cluster.jobs_path}/{name}",
                body=encode_suspend(job.version, is_suspended=is_suspended),
                content_type=MERGE_PATCH,
            )
            if answer.status == NOT_FOUND:
                self.jobs.drop(name)
            elif answer.status == CONFLICT:
                await asyncio.sleep(AGAIN_S[min(tries, len(AGAIN_S) - 1)])
                await self._read(name)
            else:
                self.jobs.take(answer.body)
                return True
        raise DeviceUnreachableError(f"Job {name}: another version at each of {TRIES} tries")

    async def _create(self, slot: int, state: DeviceState, node: str, spec: WorkloadSpec) -> bool:
        """Whether it was made; not where there is one of its name."""
        body = await self._post(slot, state, node, spec, {})
        if body is not None:
            self.jobs.take(body)
        return body is not None

    async def _post(
        self, slot: int, state: DeviceState, node: str, spec: WorkloadSpec, params: Mapping[str, str]
    ) -> Json | None:
        image = self._cluster.images.get(state)
        if image is None:
            raise DeviceRefusedError(f"slot {slot}: no image for {state.label} (driver.images of the gateway's file)")
        body = encode_job(self._cluster.facility_id, slot, state, node, image, spec)
        answer = await self._transport.call("POST", self._cluster.jobs_path, params=params, body=body)
        if answer.status == NOT_FOUND:
            raise DeviceRefusedError(f"POST {self._cluster.jobs_path}: there is no such namespace")
        return None if answer.status == CONFLICT else answer.body

    async def _delete(self, name: str, options: Json | None = None) -> bool:
        path = f"{self._cluster.jobs_path}/{name}"
        answer = await self._transport.call("DELETE", path, params={"propagationPolicy": "Background"}, body=options)
        return answer.status not in (CONFLICT, NOT_FOUND)

    async def _read(self, name: str) -> None:
        """How a Job is now."""
        answer = await self._transport.call("GET", f"{self._cluster.jobs_path}/{name}")
        if answer.status == NOT_FOUND:
            self.jobs.drop(name)
        else:
            self.jobs.take(answer.body)


def _is_behind(job: Job, spec: WorkloadSpec) -> bool:
    """Whether a suspended Job's pods, whose environment can't be changed, would go on from where its work is not any more."""
    return job.is_suspended and bool(job.work) and job.checkpoint != spec.checkpoint
