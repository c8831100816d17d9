"""From the queue to simulated GPUs and back: scheduler, Postgres, a real allocator and a real gateway, through a price spike."""

import asyncio

import pytest

from hcp_pipelines.domain.workloads import WorkloadState, WorkloadType
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect_async
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.workloads import store
from hcp_pipelines.workloads.scheduler.core import Scheduler
from hcp_pipelines.workloads.scheduler.service import plan_of
from hcp_pipelines.workloads.spec import WorkloadSpec
from tests.integration.test_desired_state import folder, site
from tests.support.cli import hcp
from tests.support.edge import until
from tests.support.queued import add_customer, api, submit

__all__ = ["api", "folder", "hcp", "site"]
DURATION_S = 4000.0


@pytest.fixture
async def rounds(site, settings):
    """A scheduler that makes a round ten times a second."""
    scheduler = Scheduler(plan_of(Settings(price_staleness_s=1e6)), site.clock)

    async def go_on():
        async with await connect_async(settings, Role.SCHEDULER) as connection:
            while True:
                await scheduler.round(connection)
                await asyncio.sleep(0.1)

    task = asyncio.ensure_future(go_on())
    yield task
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def training(gpus, **more):
    return WorkloadSpec(
        workload_type=WorkloadType.MODEL_TRAINING,
        gpu_type="H100",
        gpu_count=gpus,
        estimated_duration_s=DURATION_S,
        **more,
    )


async def test_a_spike_takes_down_what_costs_least_and_it_ends_later_with_nothing_lost(site, rounds, api, database):
    customer = add_customer(database, "one")
    steady = (await submit(api, customer, training(3, interruptible=False), now=site.clock.now())).workload_id
    cheap = (await submit(api, customer, training(4), now=site.clock.now())).workload_id

    def status(workload_id):
        assert not rounds.done(), rounds
        return database.execute(
            "select status, queued_at is not null from workloads where id = %s", (workload_id,)
        ).fetchone()

    running = (WorkloadState.RUNNING, False)
    await until(lambda: status(steady) == running == status(cheap), "both run")
    await until(lambda: len(site.gpus()[1]) == 7, "seven GPUs train")

    site.price(5_000.0)
    await until(lambda: status(cheap) == (WorkloadState.PAUSED, True), "the cheaper one waits again")
    assert status(steady)[0] in {WorkloadState.RUNNING, WorkloadState.COMPLETED}
    told = "select outcome from work_stops where workload_id = %s and outcome <> 'awaited'"
    await until(lambda: database.execute(told, (cheap,)).fetchall() == [("kept",)], "its devices say so")
    stood = await store.read(api, cheap, None)
    saved = await store.last_checkpoint(api, cheap)
    assert saved.progress_s == pytest.approx(min(stood.actual_duration_s, DURATION_S), abs=1.0)

    site.price(20.0)
    await until(lambda: status(cheap)[0] == status(steady)[0] == WorkloadState.COMPLETED, "both are done", 120)
    ended = await store.read(api, cheap, None)
    assert ended.actual_duration_s == pytest.approx(DURATION_S, abs=1.0)
    assert ended.retries_left == stood.retries_left
    await until(lambda: site.gpus()[1] == set(), "and the GPUs rest")
