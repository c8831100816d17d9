"""Desired rows down to the devices: the scheduler's rows, Postgres, real allocators, a real gateway, simulated GPUs."""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.optimizer.solve import solve_facility
from hcp_pipelines.policy.schema import Affine
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from tests.support.cli import hcp
from tests.support.edge import until
from tests.support.operated_site import FACILITY, GPUS, MINERS, OperatedSite
from tests.support.queued import add_customer

__all__ = ["hcp"]

IDLE, TRAINING = int(DeviceState.IDLE), int(DeviceState.TRAINING)
STEADY, SHAKY_AT = 5, 500.0  # GPUs that work at any price, and $/MWh above which the others don't
FIRST, SECOND = (0, 2, 4), (1, 5, 7)
DESIRE = """
    insert into desired_state (facility_id, group_id, state, slots, generation, priority, reason, actor, valid_until, workload_id,
        lease_epoch)
    values (%s, 'h100', 6, %s, %s, %s, 'workload x', 'scheduler', clock_timestamp() + interval '10 min', %s, 1) returning id"""


class DesiredSite(OperatedSite):
    """GPUs that can train, and that the scheduler has."""

    def __init__(self, hcp, folder, settings, database):
        states = [{"state": "training", "power_kw": 1.6}]
        super().__init__(hcp, folder, settings, database, scheduled=True, states=states)

    def solved(self, inputs):
        """The optimizer's for the miners; of the GPUs a part works at any price, the others up to a price."""
        return partly_at_any_price(inputs)

    def gpus(self):
        """What the gateway was told of each GPU, and what draws as training does."""
        told = np.frombuffer(self.facility.state().states, dtype=np.uint8)[MINERS : MINERS + GPUS]
        return told.tolist(), set(np.flatnonzero(self.power_w()[MINERS : MINERS + GPUS] > 1_500).tolist())

    def said(self):
        """(row, owner's epoch, state) in order."""
        rows = self.database.execute(
            "select desired_state_id, owner_epoch, state, reason from desired_outcomes order by id"
        )
        return rows.fetchall()


def partly_at_any_price(inputs):
    """The optimizer's policy, but for the GPUs, of which `STEADY` work at any price, the others up to `SHAKY_AT`."""
    groups = tuple(replace(g, is_scheduled=False) for g in inputs.site.groups)
    made = solve_facility(replace(inputs, site=replace(inputs.site, groups=groups)))
    blocks = [part for b in made.blocks for part in (parted(b) if b.group_id == "h100" else [b])]
    return made.model_copy(update={"blocks": tuple(b.model_copy(update={"order": n}) for n, b in enumerate(blocks))})


def parted(block):
    """The first GPUs at any price, the others up to one."""
    parts = []
    for devices, strike in ((STEADY, 1e5), (GPUS - STEADY, SHAKY_AT)):
        change = {"on": Affine(offset=strike), "off": Affine(offset=strike), "wake_cost_usd_per_mw": 0.0}
        parts.append(
            block.model_copy(
                update={"devices": devices, "mw": block.mw * devices / block.devices, "index": ""} | change
            )
        )
    return parts


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="d", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def site(hcp, folder, settings, database):
    with capture_logs():
        async with DesiredSite(hcp, folder, settings, database) as opened:
            await opened.start_allocator()
            opened.publish_policy()
            await until(lambda: opened.owner.in_force is not None, "the owner has a policy")
            yield opened


def desire(site, database, slots, priority):
    customer = add_customer(database, f"c{priority}")
    workload = database.execute(
        "insert into workloads (customer_id, type, priority, requirements) values (%s, 'model_training', 5, '{}') returning id",
        (customer,),
    ).fetchone()[0]
    with connect(site.settings, Role.SCHEDULER) as scheduler:
        packed = np.array(slots, dtype="<u4").tobytes()
        row = scheduler.execute(DESIRE, (FACILITY, packed, site.inventory.generation, priority, workload)).fetchone()
    return row[0]


async def test_desired_slots_train_the_cheapest_go_down_at_a_spike_and_a_successor_agrees(site, database):
    first, second = desire(site, database, FIRST, 90), desire(site, database, SECOND, 10)
    both = {(first, 1, "settled", ""), (second, 1, "settled", "")}
    await until(lambda: both <= set(site.said()), "both rows are settled")
    trains = [TRAINING if n in {*FIRST, *SECOND} else IDLE for n in range(GPUS)]
    await until(lambda: site.gpus() == (trains, {*FIRST, *SECOND}), "exactly their slots train")

    site.price(5_000.0)
    await until(lambda: site.said()[-1][:3] == (second, 1, "turned_down"), "the last in line is turned down")
    tick = database.execute("select max(id) from price_data").fetchone()[0]
    assert site.said()[-1][3].startswith(f"tick {tick} at ")
    await until(lambda: site.gpus()[1] == set(FIRST), "its slots rest, all of them")
    waves = database.execute(
        """select distinct command_id, reason, actor, devices from switch_journal
           where event = 'commanded' and tick_id = %s and group_id = 'h100' and to_state = %s""",
        (tick, IDLE),
    ).fetchall()
    assert [row[1:] for row in waves] == [("economics", "policy", len(SECOND))]
    miners = database.execute(
        "select count(*) from switch_journal where command_id = %s and event = 'commanded' and group_id = 's21'",
        (waves[0][0],),
    )
    assert miners.fetchone()[0] > 0, "in the wave that puts the miners to sleep"

    await site.stop_allocator()
    before = database.execute("select max(id) from switch_journal where event = 'commanded'").fetchone()[0]
    await site.start_allocator("allocator-b")
    again = [(first, 2, "settled"), (second, 2, "turned_down")]
    await until(lambda: [s[:3] for s in site.said() if s[1] == 2] == again, "the successor says the same")
    after = database.execute(
        "select count(*) from switch_journal where event = 'commanded' and group_id = 'h100' and id > %s", (before,)
    )
    assert after.fetchone()[0] == 0

    with connect(site.settings, Role.SCHEDULER) as scheduler:
        scheduler.execute("update desired_state set valid_until = clock_timestamp() where id = %s", (first,))
    moved = [TRAINING if n in SECOND else IDLE for n in range(GPUS)]
    await until(lambda: site.gpus() == (moved, set(SECOND)), "the other has its room")
    taken = database.execute(
        "select reason, actor from switch_journal where event = 'commanded' and group_id = 'h100' and id > %s",
        (before,),
    ).fetchall()
    assert set(taken) == {("workload", "scheduler")}
    await until(lambda: site.said()[-1][:3] == (second, 2, "settled"), "which is said")
