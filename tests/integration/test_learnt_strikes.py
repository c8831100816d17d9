"""From the platform's own prices to strikes: a model is learnt, scored and promoted, and the next tick's policies ask it."""

import json
import uuid
import warnings
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from hcp_pipelines.alerts.conditions import find_conditions
from hcp_pipelines.cli.main import cli
from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.optimizer import learnt, waiting
from hcp_pipelines.optimizer.backtest import learning
from hcp_pipelines.optimizer.backtest.learning import Score
from hcp_pipelines.optimizer.explain_words import lines_of
from hcp_pipelines.optimizer.steps import INTERVAL_H
from hcp_pipelines.orchestration.history.publish import PUBLISHED, REJECTED, Run, publish
from hcp_pipelines.orchestration.history.tables import RT_SPP
from hcp_pipelines.orchestration.learning import due, judge_model, make_model
from hcp_pipelines.orchestration.resources import Platform
from hcp_pipelines.orchestration.solving import context_of, latest_prices, publish_policies
from hcp_pipelines.policy.arrays import compile_policy
from hcp_pipelines.policy.explaining import at_anchor
from hcp_pipelines.policy.schema import Policy
from hcp_pipelines.storage import lake
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from tests.integration.test_dagster_tick_job import AT, fleet, power, run_tick_job, store

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import dagster as dg

    from assets.models import core_power__waiting_model, newest_model_serves
    from jobs.models import waiting_model_schedule

__all__ = ["fleet"]

NOW = AT + timedelta(minutes=30)
PLAIN, LEARNT = {0.5}, {1.0}
TABLE = "raw.ercot__rt_spp"
KNOWN = """
    insert into price_data (stream, series, "timestamp", price_type, value, unit, source, quality, received_at)
    select 'power.rt_spp', %s, %s - n * interval '15 minutes', 'electricity', (%s::float8[])[n], 'USD/MWh', 'test', 'good', %s
    from generate_series(1, %s) n"""


@pytest.fixture(autouse=True)
def fewer_trees(monkeypatch):
    monkeypatch.setattr(waiting, "BAG", 1)
    monkeypatch.setattr(waiting, "TREES", waiting.TREES | {"max_iter": 10, "min_samples_leaf": 20})
    monkeypatch.setattr(learning, "TRAINING_EFFICIENCIES_J_PER_TH", (27.0, 29.5, 33.0))
    monkeypatch.setattr(learning, "GOLDEN_EFFICIENCIES_J_PER_TH", (29.5,))


def told_prices(days):
    """A dear spell a day: six intervals on days that begin cheap, one on the others. No band can tell them apart."""
    random, prices = np.random.default_rng(5), np.zeros((days, 96))
    for day in prices:
        is_long, at = random.random() < 0.5, int(random.integers(20, 70))
        day[:] = (15.0 if is_long else 45.0) + random.normal(0, 1, 96)
        day[at : at + (6 if is_long else 1)] = 130.0
    return prices.ravel()


@pytest.fixture
def recorded(fleet):
    """Nine weeks at one point in the lake; the last ten days at two points in Postgres, one day at the third."""
    days = 63
    prices = told_prices(days)[::-1]  # the newest first
    at = [NOW - timedelta(minutes=15) * (n + 2) for n in range(len(prices))]
    frame = pl.DataFrame(
        {"start_at": at, "settlement_point": "HB_HOUSTON", "price_usd_per_mwh": prices, "source": "test"}
    )
    lake.write(fleet, TABLE, frame.with_columns(pl.col("start_at").cast(INSTANT)), batch_id=uuid.uuid4().hex)
    with connect(fleet, Role.ADMIN) as connection:
        for point, known_days in (("HB_HOUSTON", 10), ("HB_HUBAVG", 10), ("HB_NORTH", 1)):
            n = 96 * known_days
            connection.execute(KNOWN, (point, AT, prices[:n].tolist(), AT, n))
    yield fleet
    with lake.attach(fleet) as connection:
        connection.execute(f"drop view if exists lake.{RT_SPP.known}")
        for table in (TABLE, RT_SPP.revisions, REJECTED, PUBLISHED):
            connection.execute(f"drop table if exists lake.{table}")


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def learn(settings, instance):
    """A run of the model's asset and its check: metadata, whether the check passed, its words."""
    resources = {"platform": Platform(state_dir=str(settings.state_dir))}
    found = dg.materialize([core_power__waiting_model, newest_model_serves], resources=resources, instance=instance)
    (made,) = found.asset_materializations_for_node("core_power__waiting_model")
    (check,) = found.get_asset_check_evaluations()
    return {name: value.value for name, value in made.metadata.items()}, check


def scheduled(settings):
    """What the hourly schedule asks for now."""
    resources = {"platform": Platform(state_dir=str(settings.state_dir))}
    return waiting_model_schedule(dg.build_schedule_context(resources=resources))


def solve(settings, instance, minutes, price=40.0):
    """By settlement point the policy that a tick's run published."""
    tick = max(store(settings, *power(minutes, price)))
    assert run_tick_job(settings, instance, **{"hcp/tick_id": str(tick)}).success
    with connect(settings, Role.OPERATOR) as connection:
        rows = connection.execute("select body from policies where basis_tick_id > %s", (tick - 3,)).fetchall()
    policies = [Policy.model_validate(body) for (body,) in rows]
    assert len(policies) == 3
    return {policy.settlement_point: policy for policy in policies}


def bands(policy):
    """By block the width of its band in wakes, of those that a wake is paid for."""
    found = []
    for block in policy.blocks:
        index, per_wake = policy.anchor.indices[block.index], block.wake_cost_usd_per_mw / INTERVAL_H
        if block.index == "hashprice" and per_wake > 0:
            low, high = block.on.at(index), block.off.at(index)
            found.append((high - low) / per_wake)
    assert found
    return {round(width, 9) for width in found}


def test_a_model_is_learnt_promoted_and_asked_by_the_next_tick(recorded, instance):
    with connect(recorded, Role.CONTROL) as connection:
        assert due(connection, recorded, NOW) == "none has been made yet"
        assert isinstance(scheduled(recorded), dg.RunRequest)
        assert bands(solve(recorded, instance, 0)["HB_HOUSTON"]) == PLAIN
        told, check = learn(recorded, instance)
        assert check.passed, check.description
        assert (told["status"], told["version"], told["points"]) == ("champion", 1, "HB_HOUSTON")
        assert told["gap_closed"] >= told["band_gap_closed"]
        assert due(connection, recorded, NOW) == ""
        assert isinstance(scheduled(recorded), dg.SkipReason)
        assert due(connection, recorded, NOW + timedelta(days=8)) == "a week has passed"
        audited = connection.execute("select actor, action, subject from audit_log order by id desc limit 1").fetchone()
        assert audited == ("dagster", "model.promote", "waiting 1")
    policies = solve(recorded, instance, 5)
    for point in ("HB_HOUSTON", "HB_HUBAVG"):
        assert policies[point].strikes_from.model == "waiting 1"
        assert bands(policies[point]) == LEARNT, "as wide as a wake costs, wherever it lies"
    (line,) = [each for each in lines_of(at_anchor(compile_policy(policies["HB_HOUSTON"]))) if "strikes from" in each]
    assert line.startswith("strikes from model waiting 1 (")
    listed = CliRunner().invoke(cli, ["--state-dir", str(recorded.state_dir), "model", "list", "--json"])
    [version] = json.loads(listed.output)["models"]
    assert (version["name"], version["version"], version["status"]) == ("waiting", 1, "champion")
    north = policies["HB_NORTH"]
    assert bands(north) == PLAIN
    assert north.strikes_from.reason == "24 of the last 48 hours' prices at HB_NORTH are known"
    assert not north.strikes_from.is_model_unfit
    assert "model_unfit/waiting" not in {each.key for each in find_conditions(recorded)}


def tampered(settings, sql):
    with connect(settings, Role.ADMIN) as connection:
        connection.execute(sql)


def test_a_model_that_can_not_be_used_costs_no_solve_and_says_why(recorded, instance):
    learn(recorded, instance)
    tampered(recorded, "update models set artefact = set_byte(artefact, 5000, get_byte(artefact, 5000) # 1)")
    policies = solve(recorded, instance, 0)
    assert {policy.strikes_from.is_model_unfit for policy in policies.values()} == {True}
    assert "waiting 1: its digest is" in policies["HB_HOUSTON"].strikes_from.reason
    assert bands(policies["HB_HOUSTON"]) == PLAIN
    said = {each.key: each.summary for each in find_conditions(recorded)}
    assert "3 facilities are solved with the plain band" in said["model_unfit/waiting"]
    with connect(recorded, Role.CONTROL) as connection:
        assert "it is not what was promoted" in judge_model(connection, NOW).why
        tampered(recorded, "update models set artefact = ''")
        with pytest.raises(learnt.ModelError, match="its digest is"):
            learnt.champion(connection, NOW)
    told, check = learn(recorded, instance)
    assert (told["version"], check.passed) == (2, True)
    assert solve(recorded, instance, 5)["HB_HOUSTON"].strikes_from.model == "waiting 2"
    assert "model_unfit/waiting" not in {each.key for each in find_conditions(recorded)}
    with (
        connect(recorded, Role.CONTROL) as connection,
        pytest.raises(learnt.ModelError, match="nothing for 191\\.0 days"),
    ):
        learnt.champion(connection, NOW + timedelta(days=191 - 28))


def test_one_that_is_worse_than_the_band_does_not_serve(recorded, instance, monkeypatch):
    learn(recorded, instance)
    monkeypatch.setattr(Score, "is_no_worse", property(lambda _: False))
    told, check = learn(recorded, instance)
    assert (told["status"], told["version"], check.passed) == ("archived", 2, False)
    assert "version 2 is archived: worse than the plain band" in check.description
    assert solve(recorded, instance, 0)["HB_HOUSTON"].strikes_from.model == "waiting 1"


def candidates(settings):
    """Strikes by facility as a solve makes them now, and whose they are."""
    with connect(settings, Role.CONTROL) as connection:
        context = context_of(latest_prices(connection, NOW), NOW)
        found = publish_policies(connection, settings, context, "by hand", "candidate")
    return found.drop("policy_id", "is_new", "strikes_from"), found["strikes_from"].to_list()


def learnt_at(settings, now):
    """The digest of a model that is made at an instant, and serves."""
    with connect(settings, Role.CONTROL) as connection:
        made = make_model(connection, settings, now)
        assert made.is_champion
        return connection.execute("select digest from models where version = %s", (made.version,)).fetchone()[0]


def test_a_bad_partition_of_another_run_or_location_changes_no_policy(recorded):
    store(recorded, *power(0, 40.0))
    with lake.attach(recorded, read_only=True) as connection:
        good = connection.execute(f"from lake.{TABLE} order by start_at").pl()
    first = good["start_at"].max().replace(hour=0, minute=0) - timedelta(days=10)
    window, day = (good["start_at"].min().replace(hour=0, minute=0), NOW), (first, first + timedelta(days=1))
    publish(recorded, RT_SPP, good, window, Run("ours", NOW))
    digest = learnt_at(recorded, NOW)
    before, by = candidates(recorded)
    assert "waiting 1" in by[0]

    wrong = good.filter(pl.col("start_at").is_between(*day, closed="left"))
    absurd = wrong.with_columns(price_usd_per_mwh=pl.lit(4e7))
    assert publish(recorded, RT_SPP, absurd, day, Run("another", NOW)).rejected == 96
    for value in (float("nan"), None, -4e7):  # and past the audit, as who writes to the lake by hand
        lake.write(recorded, TABLE, wrong.with_columns(price_usd_per_mwh=pl.lit(value, pl.Float64)), uuid.uuid4().hex)
    assert learnt_at(recorded, NOW) == digest, "the same trees, learnt from the same prices"
    after, by = candidates(recorded)
    assert "waiting 2" in by[0]
    assert after.equals(before)


def test_with_too_little_history_nothing_is_made_and_it_says_how_much_is_missing(fleet, instance):
    told, check = learn(fleet, instance)
    assert told["status"] == "none"
    assert "0 days of real-time prices" in told["why"]
    assert "at least 28 are needed, and the 28 days after them" in told["why"]
    assert check.passed
    with connect(fleet, Role.CONTROL) as connection:
        assert due(connection, fleet, NOW) == ""
