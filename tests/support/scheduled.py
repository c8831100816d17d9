"""A facility whose GPUs the scheduler has, its policy and price, and an owner of few words in place of the allocator."""

import uuid
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pytest
from psycopg.types.json import Jsonb

from hcp_pipelines.domain.clock import ManualClock
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.fleet.document import FacilityFile
from hcp_pipelines.policy.schema import Affine, Anchor, Block, Couplings, LadderStep, Policy, PolicyGroup
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.wire.slots import encode_slots
from hcp_pipelines.workloads.scheduler.core import Scheduler
from hcp_pipelines.workloads.scheduler.service import plan_of
from tests.support.queued import NOON, add_customer

POINT, FACILITY = "HB_HOUSTON", "hou-1"
LADDER = {
    DeviceState.IDLE: 0.45,
    DeviceState.INFERENCE_REALTIME: 1.1,
    DeviceState.INFERENCE_BATCH: 1.3,
    DeviceState.TRAINING: 1.4,
}
WORKING = tuple(LADDER)[1:]


def facility_file(gpus=64, number=0, **group_changes):
    """A demo facility with so many H100 of 8 a node for the scheduler."""
    document = demo_facilities(number + 1, 6 * gpus * (number + 1))[number].document()
    states = [{"state": state.label, "power_kw": kw} for state, kw in LADDER.items()]
    [group] = [one for one in document["groups"] if one["group_id"] == "h100"]
    group.update({"scheduled": True, "states": states, "devices": gpus} | group_changes)
    for feeder in document["feeders"]:
        feeder["limit_mw"] *= 1.2
    document["capacity_mw"] *= 1.2
    return FacilityFile.model_validate(document)


def place(database, gpus=64, number=0, price=30.0, **group_changes):
    """The facility with its price and a policy that lets all work."""
    facility = facility_file(gpus, number, **group_changes)
    apply(database, facility, "test")
    tell_price(database, price, point=facility.settlement_point)
    tell_policy(database, gpus, facility=facility)
    lease(database, facility.facility_id, "infinity")
    return facility


def lease(database, facility_id, until):
    """Somebody commands the facility until an instant, as Postgres reads one."""
    database.execute(
        """insert into facility_leases (facility_id, owner, epoch, expires_at) values (%s, 'a', 1, %s)
           on conflict (facility_id) do update set expires_at = excluded.expires_at""",
        (facility_id, until),
    )


def tell_price(database, usd_per_mwh, at=NOON, point=POINT):
    """A power price and a rate of H100, as the feed writes them."""
    rows = [("power.rt_lmp", point, "electricity", usd_per_mwh), ("gpu.spot", "H100", "gpu_spot", 2.5)]
    for stream, series, kind, value in rows:
        database.execute(
            """insert into price_data (stream, series, "timestamp", price_type, value, unit, source, quality, received_at)
               values (%s, %s, %s, %s, %s, 'x', 'test', 'good', %s) on conflict do nothing""",
            (stream, series, at, kind, value, at),
        )
    database.execute("select pg_notify('hcp_tick', '')")


def tell_policy(database, gpus, levels=None, facility=None):
    """An admitted policy: at any price so many GPUs at each working step of the ladder or above it."""
    facility_id = FACILITY if facility is None else facility.facility_id
    most = dict(zip(WORKING, levels or (gpus,) * len(WORKING), strict=True))
    states, always = list(LADDER), Affine(offset=1e6)
    blocks = tuple(
        Block(
            group_id="h100", from_state=low, to_state=high, devices=most[high], mw=most[high] * 1e-3, order=n, off=always,
            on=always,
        )
        for n, (low, high) in enumerate(pairwise(states))
        if most[high]
    )  # fmt: skip
    tick = database.execute("select max(id) from price_data").fetchone()[0]
    body = Policy(
        facility_id=facility_id, settlement_point=POINT if facility is None else facility.settlement_point, basis_tick_id=tick,
        solved_at=NOON, refresh_due_at=NOON + timedelta(days=300), expires_at=NOON + timedelta(days=365), input_age_s={},
        inventory_generation=1,
        groups=(PolicyGroup(
            group_id="h100", feeder_id="feeder-2", devices=gpus,
            ladder=tuple(LadderStep(state=state, power_kw=kw) for state, kw in LADDER.items()),
        ),),
        blocks=blocks, couplings=Couplings(cap_mw=1e6),
        anchor=Anchor(decision_price_usd_per_mwh=30.0, indices={}, devices_by_state={}, target_by_state={"h100": {"idle": gpus}}),
    )  # fmt: skip
    policy_id = database.execute(
        """insert into policies (facility_id, status, basis_tick_id, solved_at, refresh_due_at, expires_at, inventory_generation,
               obligations_version, schema_version, digest, body)
           values (%s, 'live', %s, %s, %s, %s, 1, 0, 1, 'x', %s) returning id""",
        (facility_id, tick, body.solved_at, body.refresh_due_at, body.expires_at, Jsonb(body.model_dump(mode="json"))),
    ).fetchone()[0]
    database.execute(
        "insert into policy_admissions (policy_id, facility_id, allocator, is_admitted) values (%s, %s, 'a', true)",
        (policy_id, facility_id),
    )
    database.execute("select pg_notify('hcp_policy', '')")


OPEN = """
    select d.id, d.workload_id, d.state, d.slots, d.priority, d.facility_id from desired_state d
    where d.superseded_by is null and d.valid_until > clock_timestamp() order by d.priority desc, d.order_index, d.id"""


def open_rows(database):
    """What is desired: (row, workload, state, slots, priority)."""
    return [
        (
            row[0],
            row[1],
            row[2],
            [int.from_bytes(row[3][n : n + 4], "little") for n in range(0, len(row[3]), 4)],
            row[4],
        )
        for row in database.execute(OPEN).fetchall()
    ]


def say(owner, rows, state, at, reason="test", epoch=1, cause="", tells_saved=False):
    """The owner's word on desired rows."""
    for row in rows:
        owner.execute(
            """insert into desired_outcomes (desired_state_id, facility_id, owner_epoch, state, reason, simulated_at, cause,
                   tells_saved)
               select id, facility_id, %s, %s, %s, %s, %s, %s from desired_state where id = %s""",
            (epoch, state, reason, at, cause, tells_saved, row),
        )


def settle(owner, at, *, tells_saved=False):
    """All that is desired and was not spoken of is settled; how many rows."""
    rows = [
        row[0]
        for row in owner.execute(OPEN).fetchall()
        if owner.execute("select from desired_outcomes where desired_state_id = %s limit 1", (row[0],)).fetchone()
        is None
    ]
    say(owner, rows, "settled", at, tells_saved=tells_saved)
    return len(rows)


def keep(owner, work, slots, at, checkpoint="", problem=""):
    """A gateway's word that these slots of the group have kept a workload, or why they have not."""
    first = owner.execute(
        "select first_slot from device_groups where group_id = 'h100' and facility_id = %s", (FACILITY,)
    )
    payload = encode_slots(np.array(slots, dtype=np.uint32) + first.fetchone()[0])
    owner.execute(
        """insert into saved_work (event_id, facility_id, generation, workload_id, slots, checkpoint, problem, simulated_at)
           values (%s, %s, 1, %s, %s, %s, %s, %s)""",
        (uuid.uuid4(), FACILITY, work, payload, checkpoint, problem, at),
    )


def scheduler_at(at=NOON, speed=1.0, **changes):
    """A scheduler with a clock that moves when told."""
    clock = ManualClock(at, speed)
    return Scheduler(plan_of(Settings(**({"price_staleness_s": 1e6, "gpu_staleness_s": 1e6} | changes))), clock), clock


def as_owner(settings: Settings):
    """The allocator's login."""
    return connect(settings, Role.ALLOCATOR)


@pytest.fixture
def owner(settings, database):
    with as_owner(settings) as connection:
        yield connection


@pytest.fixture
def customer(database):
    place(database)
    return add_customer(database, "one")


def look_again(database):
    """What found no place, or failed, is not claimed again for some real seconds: they are over."""
    database.execute(
        "update workloads set lease_expires_at = '-infinity' where lease_owner is null and queued_at is not null"
    )
