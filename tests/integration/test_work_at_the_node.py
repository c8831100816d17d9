"""From the queue to a GPU node's own agent: whose work runs there, what hands over to what, and whether it is kept."""

import asyncio
import shutil
import tempfile
from http import HTTPStatus
from itertools import count
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from structlog.testing import capture_logs

from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.domain.workloads import WorkloadState
from hcp_pipelines.edge.log_files import read_log
from hcp_pipelines.edge.switches import switch_of
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.workloads import store
from simulators.addresses import address_of
from tests.integration.test_desired_state import partly_at_any_price
from tests.integration.test_scheduler_and_owner import rounds, training
from tests.support.edge import until
from tests.support.gpus import TOKEN, plain_http
from tests.support.miner_site import FACILITY, MinerSite
from tests.support.queued import add_customer, api, submit

__all__ = ["api", "rounds"]

GPUS, TRAINING = 8, int(DeviceState.TRAINING)
DESIRE = """
    insert into desired_state (
        facility_id, group_id, state, slots, generation, reason, actor, valid_until, workload_id, lease_epoch, model)
    values (%s, 'h100', 6, %s, %s, 'test', 'scheduler', clock_timestamp() + interval '10 min', %s, 1, %s) returning id"""


class WorkSite(MinerSite):
    """One node of eight GPUs that can train, which the scheduler has."""

    def solved(self, inputs):
        """Five of them at any price, the others up to 500 $/MWh."""
        return partly_at_any_price(inputs)

    async def at_node(self):
        """By GPU what its agent says of the workload there: (work, model, phase, started from, written since)."""
        first = self.inventory.groups[-1].first_slot
        async with plain_http() as http:
            said = await http.get(f"http://{address_of(0, first)}:{self.document.gpu_node.agent_port}/v1/gpus")
        found = [gpu["workload"] or {} for gpu in said.json()["gpus"]]
        return [tuple(one.get(name, "") for name in ("work", "model", "phase", "checkpoint", "saved")) for one in found]

    async def running(self):
        """By work on how many GPUs it runs."""
        works = [work for work, _, phase, _, _ in await self.at_node() if phase == "running"]
        return {work: works.count(work) for work in works}

    def switches(self):
        """Switches that are over, of the gateway's log."""
        entries = [entry for entry in read_log(self.facility._log.folder) if entry.kind == "switch"]
        found = [switch_of(pb.Switch.FromString(entry.payload), self.facility.shape.slots) for entry in entries]
        return [one for one in found if one.outcome is not None]


@pytest.fixture
async def site(settings, database):
    folder = Path(tempfile.mkdtemp(prefix="w", dir="/tmp"))
    states = [{"state": "training", "power_kw": 1.6}]
    own = {"scheduled": True, "states": states}
    groups = (("s21", "S21", "luxos", 2), ("h100", "H100 SXM5", "stock", GPUS))
    with capture_logs():
        async with WorkSite(folder, settings, database, groups, speed=300.0, gpu_group=own) as opened:
            await opened.start_allocator()
            opened.publish_policy()
            await until(lambda: opened.owner.in_force is not None, "the owner has a policy")
            yield opened
    shutil.rmtree(folder)


def lasting(gpus, **more):
    """Training that is not over before a slow machine has looked."""
    return training(gpus, **more).model_copy(update={"estimated_duration_s": 40_000.0})


async def eventually(look, what, within_s=60.0):
    """Wait until something that has to be asked for is so."""
    try:
        async with asyncio.timeout(within_s):
            while not await look():
                await asyncio.sleep(0.1)
    except TimeoutError:
        pytest.fail(f"not within {within_s:g} s: {what}")


async def test_a_customers_work_runs_at_the_node_is_checkpointed_and_goes_on_from_there(site, rounds, api, database):
    customer = add_customer(database, "one")
    steady, cheap = [
        str((await submit(api, customer, lasting(gpus, model_name=name, **more), now=site.clock.now())).workload_id)
        for gpus, name, more in ((3, "steady-7b", {"interruptible": False}), (4, "cheap-7b", {}))
    ]

    def status(workload_id):
        assert not rounds.done(), rounds
        return database.execute("select status from workloads where id = %s", (workload_id,)).fetchone()[0]

    await until(lambda: status(steady) == status(cheap) == WorkloadState.RUNNING, "both run in the books")
    await eventually(lambda: _is(site.running(), {steady: 3, cheap: 4}), "and at the node")
    assert {one[:2] for one in await site.at_node() if one[0]} == {(steady, "steady-7b"), (cheap, "cheap-7b")}

    site.price(5_000.0)
    stop = "select outcome, lost_gpu_s, progress_s from work_stops where workload_id = %s"
    await until(
        lambda: (database.execute(stop, (cheap,)).fetchone() or [""])[0] == "kept", "its devices have kept it", 60
    )
    _, lost_gpu_s, progress_s = database.execute(stop, (cheap,)).fetchone()
    assert (lost_gpu_s, progress_s > 0) == (0.0, True)
    names = {saved for work, _, _, _, saved in await site.at_node() if work == cheap}
    kept = await store.last_checkpoint(api, cheap)
    assert kept.location in names
    assert kept.location.startswith(f"{cheap}/"), "under the engine's name"
    assert kept.progress_s == pytest.approx(progress_s)

    moving = asyncio.create_task(_low_prices(site))
    await until(lambda: status(cheap) == WorkloadState.RUNNING, "it runs again")
    moving.cancel()
    await eventually(lambda: _is(site.running(), {steady: 3, cheap: 4}), "at the node too")
    row = "select checkpoint from desired_state where workload_id = %s order by id desc limit 1"
    assert database.execute(row, (cheap,)).fetchone() == (kept.location,), "and goes on from its checkpoint"
    again = [(checkpoint, saved) for work, _, _, checkpoint, saved in await site.at_node() if work == cheap]
    assert all(kept.location in one for one in again)
    assert database.execute("select coalesce(sum(lost_gpu_s), 0) from work_stops").fetchone() == (0.0,)


def trained_by(database, customer):
    """The id of a training that a customer of this name has submitted."""
    statement = """insert into workloads (customer_id, type, priority, requirements)
                   values (%s, 'model_training', 5, '{}') returning id"""
    return database.execute(statement, (add_customer(database, customer),)).fetchone()[0]


async def test_work_that_follows_other_work_on_the_same_gpus_is_switched_in_phases(site, database):
    one, two = [trained_by(database, name) for name in ("c1", "c2")]
    packed = np.array([0, 1, 2], dtype="<u4").tobytes()
    with connect(site.settings, Role.SCHEDULER) as scheduler:
        first = scheduler.execute(DESIRE, (FACILITY, packed, site.inventory.generation, one, "m-one")).fetchone()[0]
        await eventually(lambda: _is(site.running(), {str(one): 3}), "the first runs")
        with scheduler.transaction():
            scheduler.execute("update desired_state set valid_until = clock_timestamp() where id = %s", (first,))
            second = scheduler.execute(DESIRE, (FACILITY, packed, site.inventory.generation, two, "m-two")).fetchone()[
                0
            ]
    await eventually(lambda: _is(site.running(), {str(two): 3}), "the second runs in its place")
    rows = database.execute(
        """select from_state, to_state, devices, mw_delta, reason_detail from switch_journal
           where event = 'commanded' and from_state = to_state"""
    ).fetchall()
    assert [row[:4] for row in rows] == [(TRAINING, TRAINING, 3, 0.0)], "once, and it draws no more"
    assert str(two) in rows[0][4]
    await until(lambda: sum(len(s.slots) for s in site.switches()) == 3, "the switches are over")
    for switch in site.switches():
        assert (switch.before.workload_id, switch.work.workload_id) == (str(one), str(two))
        assert set(switch.phases_ms) == {"checkpoint", "switch", "start"}
        assert switch.is_success
    kept = "select count(*) from saved_work where workload_id = %s and problem = '' and checkpoint <> ''"
    await until(lambda: database.execute(kept, (one,)).fetchone()[0] >= 1, "what was let go of is kept")
    said = "select tells_saved from desired_outcomes where desired_state_id = %s and state = 'settled'"
    await until(lambda: database.execute(said, (second,)).fetchall() == [(True,)], "the second is settled")


async def test_a_node_that_refuses_to_hand_over_is_not_taken_for_one_that_has(site, database):
    one, two = [trained_by(database, name) for name in ("c1", "c2")]
    packed = np.array([0, 1, 2], dtype="<u4").tobytes()
    node = f"http://{address_of(0, site.inventory.groups[-1].first_slot)}:{site.document.gpu_node.agent_port}"
    with connect(site.settings, Role.SCHEDULER) as scheduler:
        first = scheduler.execute(DESIRE, (FACILITY, packed, site.inventory.generation, one, "m-one")).fetchone()[0]
        await eventually(lambda: _is(site.running(), {str(one): 3}), "the first runs")
        async with plain_http() as http:
            token = {"Authorization": f"Bearer {TOKEN}"}
            drain = await http.post(f"{node}/v1/node/drain", json={"request_id": uuid4().hex}, headers=token)
        assert drain.status_code == HTTPStatus.ACCEPTED
        with scheduler.transaction():
            scheduler.execute("update desired_state set valid_until = clock_timestamp() where id = %s", (first,))
            second = scheduler.execute(DESIRE, (FACILITY, packed, site.inventory.generation, two, "m-two")).fetchone()[
                0
            ]
    failed = """select j.failed from switch_journal j join switch_journal c using (command_id, assignment)
                where j.event = 'settled' and c.event = 'commanded' and c.reason_detail like %s"""
    await until(lambda: database.execute(failed, (f"%{two}%",)).fetchone(), "the gateway says so")
    assert database.execute(failed, (f"%{two}%",)).fetchone() == (3,)
    assert await site.running() == {str(one): 3}
    said = database.execute("select distinct state from desired_outcomes where desired_state_id = %s", (second,))
    assert "settled" not in {row[0] for row in said.fetchall()}


async def _low_prices(site):
    """Prices that move, so that the scheduler looks again where work was turned down."""
    for n in count():
        site.price(20.0 + n % 5)
        await asyncio.sleep(2.0)


async def _is(found, wanted):
    return await found == wanted
