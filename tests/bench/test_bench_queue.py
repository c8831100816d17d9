"""What `hcp bench queue` measures: a queue that is filled, decided upon down to devices, and read. No times."""

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
    assert all(value > 0 for name, value in figures.items() if name.endswith(("_ms", "_per_s")))
