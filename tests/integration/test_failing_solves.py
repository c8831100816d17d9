"""A live solve that fails or is late: the policy in force stays, an alert says so, and the next solve that works ends it."""

import warnings
from datetime import timedelta

import pytest

from hcp_pipelines.alerts.conditions import find_conditions
from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.orchestration import solving
from hcp_pipelines.orchestration.resources import Platform
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from tests.integration.test_dagster_tick_job import AT, fleet, power, run_tick_job, store

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import dagster as dg

    from sensors.control import run_failed_sensor

__all__ = ["fleet"]


def wrong(settings):
    """Alerts about solves, by key."""
    found = {c.key: c.summary for c in find_conditions(settings)}
    return {key: said for key, said in found.items() if key.startswith(("solve_failed/", "policy_overdue/", "alert."))}


def newest(settings):
    """By facility the tick that its newest live policy rests on: what an owner looks at first."""
    with connect(settings, Role.OPERATOR) as connection:
        rows = connection.execute(
            "select facility_id, max(basis_tick_id) from policies where status = 'live' group by 1"
        )
        return dict(rows.fetchall())


def solve(settings, instance, minutes, price=40.0):
    """A live run on a new tick."""
    tick = max(store(settings, *power(minutes, price)))
    return run_tick_job(settings, instance, raise_on_error=False, **{"hcp/tick_id": str(tick)})


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def breaks(monkeypatch, facility_id):
    real = solving.solve_facility

    def solve_or_fail(inputs):
        if inputs.site.facility_id == facility_id:
            raise ArithmeticError("the programme is infeasible: reserve 12 MW above the load of 8 MW")
        return real(inputs)

    monkeypatch.setattr(solving, "solve_facility", solve_or_fail)


def test_one_facility_that_can_not_be_solved_keeps_its_policy_and_the_others_get_theirs(fleet, instance, monkeypatch):
    assert solve(fleet, instance, 0).success
    before = newest(fleet)
    assert wrong(fleet) == {}
    with monkeypatch.context() as broken:
        breaks(broken, "hou-1")
        result = solve(fleet, instance, 5)
    assert result.success
    (made,) = result.asset_materializations_for_node("core_hcp__policies")
    assert made.metadata["facilities_not_solved"].value == 1
    after = newest(fleet)
    assert [name for name in before if after[name] == before[name]] == ["hou-1"]
    (said,) = wrong(fleet).values()
    assert [word in said for word in ("hou-1: its last solve failed", "stays in force until", "reserve 12 MW")] == [
        True
    ] * 3
    assert solve(fleet, instance, 10).success
    assert wrong(fleet) == {}


def test_a_facility_without_prices_yet_does_not_keep_the_others_from_theirs(fleet, instance):
    tick = max(store(fleet, *[tick for tick in power(0, 40.0) if tick.series != "HB_NORTH"]))
    assert run_tick_job(fleet, instance, **{"hcp/tick_id": str(tick)}).success
    assert "nor-1" not in newest(fleet)
    assert len(newest(fleet)) == 2
    (said,) = wrong(fleet).values()
    assert "nor-1: its last solve failed, it has no policy yet: no actionable value of power.rt_lmp HB_NORTH" in said


def test_a_run_that_fails_altogether_is_one_alert_until_the_next_one_works(fleet, instance, monkeypatch):
    assert solve(fleet, instance, 0).success
    before = newest(fleet)
    with monkeypatch.context() as broken:
        for name in ("hou-1", "nor-1", "wes-1"):
            breaks(broken, name)
        broken.setattr("assets.ticks.publish_policies", lambda *_: 1 / 0)
        failed = [solve(fleet, instance, minutes) for minutes in (5, 10)]
    for result in failed:
        assert not result.success
        tell_sensor(fleet, instance, result)
    assert newest(fleet) == before
    assert list(wrong(fleet)) == ["solve_failed/tick_job"], "not one a run"
    assert [word in wrong(fleet)["solve_failed/tick_job"] for word in ("stay in force", "division by zero")] == [
        True
    ] * 2
    assert solve(fleet, instance, 15).success
    assert wrong(fleet) == {}


def tell_sensor(settings, instance, result):
    """What Dagster's daemon does with a failed run."""
    event = next(event for event in result.all_events if event.is_failure and not event.is_step_event)
    run = instance.get_run_by_id(result.run_id)
    context = dg.build_run_status_sensor_context(
        "run_failed_sensor", event, instance, run, resources={"platform": Platform(state_dir=str(settings.state_dir))}
    ).for_run_failure()
    run_failed_sensor(context)


def set_clock(settings, minutes):
    anchor = Anchor(SystemClock().real_now(), AT + timedelta(minutes=minutes), 1.0)
    settings.at("run", "clock.json").write_text(anchor.dump())


def test_a_late_solve_is_an_alert_from_the_refresh_date_on_until_it_is_there(fleet, instance):
    assert solve(fleet, instance, 0).success
    before = newest(fleet)
    set_clock(fleet, 30 + 61)  # the policies were solved at minute 30, and are to be refreshed after an hour
    late = wrong(fleet)
    assert sorted(late) == [f"policy_overdue/{name}" for name in sorted(before)]
    assert "stays in force until" in late["policy_overdue/hou-1"]
    assert newest(fleet) == before
    assert solve(fleet, instance, 85).success
    assert wrong(fleet) == {}
