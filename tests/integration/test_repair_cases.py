"""Cases of quarantine, which Postgres opens as the owner's word is written: how many at a time, and that the writer goes on."""

from datetime import UTC, datetime, timedelta

import pytest
from psycopg.types.json import Jsonb

from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role

DEVICES = 12_000
NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
REMEMBERED = """
    insert into owner_memory (facility_id, epoch, simulated_at, memory) values ('hou-1', 1, %s, %s)
    on conflict (facility_id) do update set memory = excluded.memory, simulated_at = excluded.simulated_at"""
# A writer that is held up for longer keeps the outcomes of its facilities' devices from everybody.
BOUND = "set statement_timeout = '5s'"


@pytest.fixture
def remember(settings, database):
    """Of a facility whose tables nobody has analyzed yet, as the allocator's writer does it; the slots that have cases."""
    for facility in demo_facilities(1, DEVICES):
        apply(database, facility, "test")
    database.commit()
    with connect(settings, Role.ALLOCATOR) as writer:
        writer.execute(BOUND)

        def write(slots, after_s=0.0):
            writer.execute(REMEMBERED, (NOON + timedelta(seconds=after_s), Jsonb({"failed_slots": [*slots]})))
            writer.commit()
            return [row[0] for row in database.execute("select slot from repair_cases order by slot").fetchall()]

        yield write


def test_many_at_once_hold_nobody_up_and_are_no_broken_devices(remember):
    remember([])
    assert remember(range(4096)) == []
    assert remember(range(1, 4097)) == [4096], "one more beside those that are in quarantine already"
    assert remember([*range(1, 4097), 11_000], 5) == [4096, 11_000]


def test_devices_of_one_group_a_few_at_a_time_are_a_switch_or_a_feeder(remember, database):
    [(first, bound)] = database.execute(
        "select first_slot, greatest(5, 0.02 * devices)::integer from device_groups order by first_slot limit 1"
    ).fetchall()
    remember([])
    for n in range(1, 11):
        cases = remember(range(first, first + n * bound // 2), 5 * n)
    assert cases == [*range(first, first + bound // 2 * 2)], "of ten lots two are within what breaks at a time"
    later = [*range(first, first + 5 * bound), first + 5 * bound]
    assert remember(later, 1_000)[-1] == first + 5 * bound, "a while later one device is one device again"
