"""What `hcp bench queue` measures: a queue that is filled, decided upon and read. No times."""

from benchmarks.queue import measure
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role


async def test_it_measures_what_it_says(settings):
    figures = await measure(settings, 1_000)
    assert figures["decided"] == figures["batch"]
    with connect(settings, Role.ADMIN) as database:
        counts = dict(database.execute("select status, count(*) from workloads group by status").fetchall())
    assert counts == {"queued": 1_000 + 600 - 500, "scheduled": 400, "completed": 100}
    assert all(value > 0 for name, value in figures.items() if name.endswith(("_ms", "_per_s")))
