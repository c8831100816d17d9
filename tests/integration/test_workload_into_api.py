"""The generator against the platform's own API: sound work is queued once, malformed refused, whatever limits say in between."""

from itertools import islice

import pytest

from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from simulators.workloads import assumed, fitted
from simulators.workloads.generator import Plan, submissions
from simulators.workloads.submit import Keys, Tally, Target, send
from tests.support.api import running_api, with_fleet

START_S = 1_748_736_000.0
FEW_REQUESTS = "update request_limits set per_minute = 1200, burst = 4"


@pytest.fixture
def api(settings):
    with_fleet(settings)
    with running_api(settings, FEW_REQUESTS) as running:
        yield running


def stream(count):
    """Work for a fleet of H100s; without deadlines, which lie in the stream's own time and not in the API's."""
    own = assumed.load()
    h100 = own.model_copy(update={"gpus": {"H100": own.gpus["H100"].model_copy(update={"liked": 1.0})}})
    mix = {"chat": 0.4, "jobs": 0.3, "images": 0.3}
    plan = Plan(5, 5.0, START_S, START_S + 1e6, mix=mix, is_flat=True, malformed=0.15, impossible=0.1)
    found = islice(submissions(plan, h100, fitted.load()), count)
    return [each for each in found if not (isinstance(each.spec, dict) and "deadline_at" in each.spec)]


async def test_the_api_takes_each_sound_submission_once_and_refuses_malformed_ones(api):
    work = stream(90)
    by_kind = {}
    for each in work:
        by_kind.setdefault(str(each.label["defect"]).partition(":")[0], set()).add(each.idempotency_key)
    assert {name: len(keys) > 3 for name, keys in by_kind.items()} == {
        "None": True,
        "malformed": True,
        "impossible": True,
    }
    target = Target(api.base_url, Keys(api.people["customer"].key), concurrency=8, patience_s=15.0)
    tally, again = Tally(), Tally()
    await send(work, target, tally)
    await send(work, target, again)
    for each in (tally, again):
        assert each.counts["malformed_but_accepted"] == each.counts["sound_but_refused"] == 0
    assert tally.by_status["429"] > 0  # more at once than the limit lets through: it came again
    with connect(api.settings, Role.ADMIN) as connection:
        rows = connection.execute("select idempotency_key from workloads").fetchall()
    keys = [key for (key,) in rows]
    assert len(keys) == len(set(keys))
    assert by_kind["None"] <= set(keys) <= by_kind["None"] | by_kind["impossible"]
