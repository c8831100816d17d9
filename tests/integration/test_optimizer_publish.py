"""From ticks in a real database to published policies and scores, with the rights of hcp_control alone."""

from datetime import UTC, datetime, timedelta

import pytest

from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.economics.mining import hashprice_usd_per_ph_day
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.fleet.solve_sites import load_sites
from hcp_pipelines.optimizer.inputs import InputsNotReadyError
from hcp_pipelines.optimizer.load import load_inputs
from hcp_pipelines.optimizer.publish import publish, publish_all, write_scores
from hcp_pipelines.optimizer.scores import score_facilities
from hcp_pipelines.optimizer.solve import solve_facility
from hcp_pipelines.policy.schema import Policy
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role

START = datetime(2025, 1, 1, tzinfo=UTC)
NOW = START + timedelta(minutes=12)


@pytest.fixture
def control(settings):
    with connect(settings, Role.CONTROL) as connection:
        yield connection


@pytest.fixture
def fleet(database):
    for facility in demo_facilities(3, 2000):
        apply(database, facility, "tester")


def tick(database, stream, series, value, at=NOW, quality="good", revision=0):
    price_type = {"power": "electricity", "gpu": "gpu_spot"}.get(stream.split(".")[0], "btc")
    return database.execute(
        """insert into price_data (stream, series, "timestamp", price_type, value, unit, source, quality, revision, received_at)
           values (%s, %s, %s, %s, %s, 'x', 'test', %s, %s, %s) returning id""",
        (stream, series, at, price_type, value, quality, revision, at),
    ).fetchone()[0]


@pytest.fixture
def ticks(database):
    for point in ("HB_HOUSTON", "HB_NORTH", "HB_HUBAVG"):
        for minutes, lmp in ((-5, 900.0), (0, 20.0), (5, 30.0), (10, 40.0)):
            tick(database, "power.rt_lmp", point, lmp, START + timedelta(minutes=minutes))
    tick(database, "btc.usd", "consensus", 93_500.0)
    for series, value in (("difficulty", 109.78e12), ("fees_btc_per_block", 0.08), ("height", 877_000.0)):
        tick(database, "btc.network", series, value)
    return tick(database, "gpu.spot", "H100", 2.4)


def test_inputs_are_the_newest_actionable_values(database, control, fleet, ticks):
    tick(database, "power.rt_lmp", "HB_HOUSTON", 9e9, NOW, quality="absurd")
    tick(database, "power.rt_lmp", "HB_HOUSTON", 700.0, NOW + timedelta(minutes=3))  # not yet
    tick(database, "power.rt_lmp", "HB_HOUSTON", 60.0, START + timedelta(minutes=10), revision=1)
    inputs = {i.site.facility_id: i for i in load_inputs(control, load_sites(control), NOW)}
    assert inputs["nor-1"].decision_price_usd_per_mwh == pytest.approx(30.0)
    assert inputs["hou-1"].decision_price_usd_per_mwh == pytest.approx((20 + 30 + 60) / 3)
    assert inputs["nor-1"].basis_tick_id == ticks
    expected = {"hashprice": hashprice_usd_per_ph_day(93_500.0, 109.78e12, 0.08, 877_000), "gpu.H100": 2.4}
    assert inputs["nor-1"].indices == pytest.approx(expected)
    assert inputs["nor-1"].input_age_s["power.rt_lmp"] == 120.0


def test_ticks_past_the_basis_are_not_looked_at(database, control, fleet, ticks):
    tick(database, "btc.usd", "consensus", 1.0, NOW + timedelta(seconds=1))
    (first, *_) = load_inputs(control, load_sites(control), NOW + timedelta(minutes=1), None, ticks)
    assert first.basis_tick_id == ticks
    assert first.indices["hashprice"] > 50


def test_without_a_price_the_message_names_the_series(control, fleet):
    with pytest.raises(InputsNotReadyError, match=r"power\.rt_lmp HB_HOUSTON"):
        load_inputs(control, load_sites(control), NOW)


def test_present_states_are_where_groups_were_last_sent(database, control, fleet, ticks):
    for state, when in ((3, NOW - timedelta(hours=1)), (2, NOW)):
        database.execute(
            """insert into switch_journal (event, facility_id, owner, epoch, command_id, assignment, generation, group_id,
                   from_state, to_state, devices, reason, simulated_at)
               values ('commanded', 'hou-1', 'a', 1, gen_random_uuid(), 0, 1, 's21', 0, %s, 223, 'economics', %s)""",
            (state, when),
        )
    (hou, *_) = load_inputs(control, load_sites(control, ["hou-1"]), NOW)
    assert hou.present == {"s21": {DeviceState.MINING_ECO: 223}}


def test_publishing_is_idempotent_per_tick_and_announced_once(control, settings, fleet, ticks):
    policies = [solve_facility(i) for i in load_inputs(control, load_sites(control), NOW, {"run_id": "r1"})]
    with connect(settings, Role.ALLOCATOR) as listener:
        listener.execute("listen hcp_policy")
        first = publish_all(control, policies)
        again = publish_all(control, policies)
        announced = [n.payload for n in listener.notifies(timeout=2, stop_after=4)]
    assert [r.already_there for r in first] == [False] * 3
    assert [(r.policy_id, r.already_there) for r in again] == [(r.policy_id, True) for r in first]
    assert announced == [str(r.policy_id) for r in first]
    body, digest, run_id = control.execute("select body, digest, run_id from policies order by id").fetchone()
    stored = Policy.model_validate(body)
    assert (stored.digest(), run_id) == (digest, "r1")
    assert stored == policies[0]


def test_a_candidate_is_stored_and_not_announced(control, settings, fleet, ticks):
    policy = solve_facility(load_inputs(control, load_sites(control), NOW)[0])
    with connect(settings, Role.ALLOCATOR) as listener:
        listener.execute("listen hcp_policy")
        publish(control, policy, "candidate", "manual")
        publish(control, policy, "live")
        assert len(list(listener.notifies(timeout=1))) == 1
    assert control.execute("select count(*) from policies").fetchone() == (2,)


def test_scores_are_written_once_per_tick(control, fleet, ticks):
    scores = score_facilities(load_inputs(control, load_sites(control), NOW))
    assert scores.height == 12
    assert write_scores(control, scores, ticks, NOW) == 12
    assert write_scores(control, scores, ticks, NOW) == 0
    row = control.execute(
        """select workload_type, recommendation, usd_per_mwh > 0, net_profit = expected_revenue - estimated_cost
           from profitability_scores where resource_id = 'hou-1/h100'"""
    ).fetchone()
    assert row == ("ai_inference_batch", "allocate", True, True)
