"""What demand's champion says, from Postgres into a solve: whose word it was, what stands where it can't be used, promotions."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
import pytest

from hcp_pipelines.fleet.solve_sites import load_sites
from hcp_pipelines.forecasting.learnable.protocol import LEVELS
from hcp_pipelines.forecasting.model_file import digest_of
from hcp_pipelines.optimizer.queue.live import queue_ahead, with_queue
from hcp_pipelines.orchestration.demand_quantiles import judge_champion
from hcp_pipelines.policy.schema import WorkExpected
from hcp_pipelines.storage import expected_demand, models
from hcp_pipelines.storage.expected_demand import Hour
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from tests.integration.test_queue_value import LATER, _inputs, control, customer, fleet, training
from tests.support.queued import NOON, api, submit
from tests.support.waiting import until

__all__ = ["api", "control", "customer", "fleet"]
TRAINING = "model_training"


def serve(connection, content=b"a model", trained_until=NOON, status="champion"):
    """A version that serves; its number. Nothing here asks it anything."""
    kept = models.Kept("demand", digest_of(content), content, trained_until, trained_until, {})
    return models.keep(connection, kept, status, "ann", "a test")


def say(connection, version, gpus=16.0, asked_at=NOON, hours=3, rising=1.0):
    """Quantiles of training of which the 90 % one is `gpus`."""
    each = [max(gpus + rising * (n - LEVELS.index(0.9)), 0.0) for n in range(len(LEVELS))]
    rows = [Hour(TRAINING, NOON + timedelta(hours=h), each) for h in range(hours)]
    return expected_demand.keep(connection, rows, f"demand/{version}", asked_at)


def expected(connection, quantile="q90", now=LATER):
    """What the policy of the facility that works for the queue says."""
    hou, plain = with_queue(connection, [_inputs(site) for site in load_sites(connection)], now, quantile)
    assert plain.expected is None
    return hou.expected


async def test_the_champion_s_word_less_what_asks_already_keeps_room_and_is_named(control, api, customer):
    await submit(api, customer, training(gpu_count=4, hours=3))
    say(control, serve(control))
    assert expected(control) == WorkExpected(model="demand/1", quantile="q90", asked_at=NOON, gpus=12)
    assert expected(control, "q50").gpus == 10
    await submit(api, customer, training(gpu_count=2, hours=3))
    assert expected(control).gpus == 10  # two have come
    inputs = [_inputs(site) for site in load_sites(control)]
    work, told = queue_ahead(control, inputs, LATER, "q90")
    assert (list(work), told) == (["hou-1"], "work to come: demand/1 (q90)")
    (coming,) = work["hou-1"].coming
    assert coming.mw.shape == (1, 3)
    assert coming.mw[0, :2] * 1000 / 1.0 == pytest.approx([10, 10], rel=0.5)
    none, why = queue_ahead(control, inputs, LATER)
    assert (none["hou-1"].coming[0].most_mw, why) == (0.0, "no work to come: HCP_EXPECTED_WORK is off")


async def test_where_it_can_not_be_used_the_fixed_share_stands_with_the_reason(control, fleet):
    def why(**more):
        found = expected(control, **more)
        assert (found.model, found.gpus) == ("", 0)
        return found.reason

    assert why() == "no version of demand serves (`hcp train demand` makes one)"
    assert why(quantile="off") == "HCP_EXPECTED_WORK is off"
    first = serve(control)
    assert "has said nothing yet" in why()
    say(control, first)
    assert expected(control).gpus == 16
    late = NOON + timedelta(hours=6, minutes=1)
    assert why(now=late).startswith("demand/1 says nothing past 2")  # its three hours are over
    say(control, first, asked_at=NOON, hours=7)
    assert expected(control, now=late).model == "demand/1"  # in a world that goes fast
    fleet.execute("update expected_demand set recorded_at = recorded_at - interval '61 minutes'")
    assert "6.0 hours of the world ago, at most 6" in why(now=late)
    assert "which is still to come" in why(now=NOON - timedelta(seconds=1))
    second = serve(control)
    assert why() == "demand/2 serves, the newest word is of demand/1: forecasts_job asks it twice an hour"
    say(control, second, 40.0, asked_at=NOON + timedelta(minutes=20))
    assert expected(control).gpus == 20  # all there are
    models.roll_back(control, "demand", "ann", "it says too much")
    assert "demand/1 serves" in why()
    assert say(control, first, asked_at=NOON - timedelta(hours=1)) is False  # an older word changes nothing
    say(control, first, 18.0, asked_at=NOON + timedelta(minutes=25), rising=0.0)
    assert expected(control).gpus == 18
    say(control, first, asked_at=NOON + timedelta(minutes=26), rising=-1.0)
    assert "fall as their level rises" in why()


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -1.0, None])
def test_postgres_keeps_no_forecast_that_is_no_number_and_the_word_before_stays(control, fleet, broken):
    version = serve(control)
    say(control, version)
    rows = [Hour(TRAINING, NOON, [broken, *[20.0] * 6])]
    with pytest.raises(psycopg.errors.CheckViolation):
        expected_demand.keep(control, rows, f"demand/{version}", LATER)
    assert expected(control).gpus == 16


def test_until_a_new_champion_can_be_asked_the_word_of_the_one_whose_place_it_took_stands(control, fleet):
    """It is asked of whole hours alone, of none before its training."""
    begun, hour = NOON + timedelta(minutes=2), NOON + timedelta(hours=1)
    first = serve(control, b"one", begun)
    found = expected(control)
    assert (found.model, "said nothing yet: it is asked from" in found.reason) == ("", True)
    say(control, first)
    serve(control, b"two", begun)
    assert (expected(control).model, expected(control).gpus) == ("demand/1", 16)
    assert judge_champion(control, LATER).why.endswith(
        "until then the word of demand/1 stands, asked at " + f"{NOON:%Y-%m-%dT%H:%MZ}"
    )
    assert expected(control, now=hour).reason.endswith("of demand/1: forecasts_job asks it twice an hour")
    models.promote(control, "demand", serve(control, b"three", begun, "challenger"), "ann", "a test", {})
    assert "newest word is of demand/1: it is asked from" in expected(control).reason  # it took the place of demand/2
    models.roll_back(control, "demand", "ann", "a test")
    models.roll_back(control, "demand", "ann", "a test")
    assert expected(control).model == "demand/1"
    say(control, 2, asked_at=NOON)
    assert "newest word is of demand/2: it is asked from" in expected(control).reason  # which was rolled back from


async def test_a_solve_beside_promotions_is_on_one_version_or_says_that_none_has_spoken(control, settings, fleet):
    sizes = {serve(control, content): gpus for content, gpus in ((b"one", 7.0), (b"other", 13.0))}
    stop, turns = threading.Event(), []

    def read(found):
        """One more solve; by whose word all were."""
        found.append(expected(control))
        return {each.model for each in found}

    def promote():
        with connect(settings, Role.CONTROL) as own:
            while not stop.is_set():
                version = 1 + len(turns) % 2
                models.promote(own, "demand", version, "ann", "to and fro", {})
                say(own, version, sizes[version], asked_at=NOON)
                turns.append(version)

    with ThreadPoolExecutor(1) as pool:
        going = pool.submit(promote)
        try:
            await until(lambda: turns or going.done(), "a first promotion")
            found = []
            await until(lambda: going.done() or read(found) >= {"demand/1", "demand/2"}, "solves by both versions")
        finally:
            stop.set()
            going.result()
    by = {(each.model, each.gpus) for each in found if each.model}
    assert by == {(f"demand/{version}", int(gpus)) for version, gpus in sizes.items()}
    assert all("the newest word is of" in each.reason for each in found if not each.model)
