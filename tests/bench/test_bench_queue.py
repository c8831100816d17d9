"""What `hcp bench queue` measures: a queue that is filled, decided upon down to devices, and read. No times."""

import pytest

from benchmarks.parts.queue_api import summary
from benchmarks.queue import measure
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role

WAITING, GPUS = 1_000, 800
BY_STATUS = "select status, count(*) from workloads group by status"
DESIRED = "select count(*), count(distinct workload_id), sum(length(slots) / 4) from desired_state"
ALLOCATED = "select count(*), count(distinct resource_id) from allocations where released_at is null"


async def test_it_measures_what_it_says(settings):
    figures = await measure(settings, WAITING, GPUS)
    assert figures["claimed"] == figures["batch"] == 500
    with connect(settings, Role.ADMIN) as database:
        counts = dict(database.execute(BY_STATUS).fetchall())
        rows, works, devices = database.execute(DESIRED).fetchone()
        allocated = database.execute(ALLOCATED).fetchone()
    assert 0 < figures["decided"] <= rows == works
    assert allocated == (devices, devices), "what is desired is allocated, each device once"
    assert GPUS * 0.9 < devices <= GPUS
    assert counts["completed"] == 100
    assert counts["scheduled"] == figures["claimed"] - 100 + rows
    assert sum(counts.values()) == WAITING + 600
    assert figures["queue_op_p95_ms"] >= figures["complete_p95_ms"]
    assert all(value > 0 for name, value in figures.items() if name.endswith(("_ms", "_per_s")))


def step(per_s, p95_ms, unanswered=0):
    return {"per_s": per_s, "submitted": int(per_s * 10), "p95_ms": p95_ms, "unanswered": unanswered}


@pytest.mark.parametrize(
    ("steps", "rate", "p95_ms"),
    [
        ([step(100, 7.0), step(300, 9.0), step(400, 51.0)], 300, 9.0),
        ([step(100, 7.0), step(300, 9.0, unanswered=1)], 100, 7.0),
        ([step(100, 80.0)], 0, 80.0),
        ([step(100, None)], 0, None),
    ],
)
def test_the_rate_is_the_highest_that_was_kept_up_in_time_and_by_all(steps, rate, p95_ms):
    found = summary(
        {
            "open_loop": steps,
            "open_loop_accepted_and_gone": 2,
            "at_once_accepted_and_gone": 1,
            "at_once_connections": 50,
        }
    )
    assert (found["submit_rate_per_s"], found["submit_p95_ms"]) == (rate, p95_ms)
    assert (found["submitted"], found["lost"]) == (50 + sum(one["submitted"] for one in steps), 3)
